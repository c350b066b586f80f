package main

import (
	"errors"

	"github.com/zklvs/zklvs/internal/spec"
)

// Exit codes, documented in `zklvs help` and the README.
const (
	exitOK       = 0
	exitFailed   = 1 // what was asked for did not happen
	exitBadInput = 2 // flags, a file or a document are wrong; nothing was done
	exitDiffers  = 3 // done, and there is something to tell: `diff` found differences
	exitCut      = 3 // likewise: `drain` cut connections at the deadline
	exitNoted    = 3 // likewise: `import` or `export` left something out
)

const exitCodesHelp = `Exit codes:
  0  done
  1  failed: the message says what and what to do
  2  bad input (flags, a file, a document): nothing was done
  3  done, with a finding: diff found differences, drain cut connections at its
     deadline, import or export left something out`

// codedError is an error with an exit code of its own.
type codedError struct {
	error
	code   int
	silent bool
}

func (e *codedError) Unwrap() error { return e.error }

// badInput marks an error as the user's.
func badInput(err error) error { return &codedError{error: err, code: exitBadInput} }

// finished ends a command with a code and without a message.
func finished(code int) error {
	return &codedError{error: errors.New("finished"), code: code, silent: true}
}

func isSilent(err error) bool {
	var c *codedError
	return errors.As(err, &c) && c.silent
}

func exitCode(err error) int {
	var c *codedError
	var documents spec.Errors
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &c):
		return c.code
	case errors.As(err, &documents):
		return exitBadInput
	}
	return exitFailed
}
