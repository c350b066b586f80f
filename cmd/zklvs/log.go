package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
)

// logFlags choose how a daemon logs. Logs go to stderr, for journald.
type logFlags struct{ format, level string }

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.format, "log-format", "auto", "console, json, or auto: console on a terminal")
	cmd.Flags().StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
}

func (f *logFlags) logger() (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(f.level)
	if err != nil {
		return nil, badInput(fmt.Errorf("--log-level %q: expected debug, info, warn or error", f.level))
	}
	encoder := zap.NewProductionEncoderConfig()
	encoder.EncodeTime = zapcore.ISO8601TimeEncoder
	encoder.EncodeDuration = zapcore.StringDurationEncoder
	var enc zapcore.Encoder
	switch {
	case f.format == "console", f.format == "auto" && isTerminal(os.Stderr):
		encoder.EncodeLevel = zapcore.CapitalLevelEncoder
		enc = zapcore.NewConsoleEncoder(encoder)
	case f.format == "json", f.format == "auto":
		enc = zapcore.NewJSONEncoder(encoder)
	default:
		return nil, badInput(fmt.Errorf("--log-format %q: expected console, json or auto", f.format))
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(os.Stderr), level)), nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
