// Command zklvs keeps virtual IPs of a Linux Virtual Server cluster answered by
// exactly one live director. See the README.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil && !isSilent(err) {
		fmt.Fprintln(os.Stderr, "zklvs:", err)
	}
	os.Exit(exitCode(err))
}
