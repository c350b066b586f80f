// Command zklvs keeps virtual IPs of a Linux Virtual Server cluster answered by
// exactly one live director. See the README.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/zklvs/zklvs/internal/spec"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := execute(ctx)
	stop()
	tell(err)
	os.Exit(exitCode(err))
}

func execute(ctx context.Context) error {
	root := rootCommand()
	if _, _, err := root.Find(os.Args[1:]); err != nil { // an unknown command
		return badInput(err)
	}
	return root.ExecuteContext(ctx)
}

// tell prints an error for people. Faults of documents begin with their place,
// one a line, as compilers do.
func tell(err error) {
	var documents spec.Errors
	switch {
	case err == nil || isSilent(err):
	case errors.As(err, &documents):
		fmt.Fprintln(os.Stderr, err)
	default:
		fmt.Fprintln(os.Stderr, "zklvs:", err)
	}
}
