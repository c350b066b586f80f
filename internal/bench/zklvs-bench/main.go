// Command zklvs-bench measures zklvs beside keepalived: see package bench.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/zklvs/zklvs/internal/bench"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	begun := time.Now()
	runs := flag.Int("runs", 10, "")
	flag.Parse()
	s, err := bench.Find(flag.Arg(0))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	r, err := s.Run(ctx, bench.Env{Zklvs: flag.Arg(1), Runs: *runs, Keep: os.Getenv("ZKLVS_OUT"), Progress: func(f string, a ...any) {
		fmt.Printf("[%6.1f s] %s\n", time.Since(begun).Seconds(), fmt.Sprintf(f, a...))
	}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		defer os.Exit(1)
	}
	r.Section = s.Name()
	if err := r.Save(os.Getenv("ZKLVS_OUT")); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
