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

	"github.com/spf13/cobra"

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
	if _, _, err := root.Find(os.Args[1:]); err != nil && !completes(os.Args[1:]) { // an unknown command
		return badInput(err)
	}
	return root.ExecuteContext(ctx)
}

// completes says that the shell asks what could stand next: cobra adds that
// command when it runs.
func completes(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
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
