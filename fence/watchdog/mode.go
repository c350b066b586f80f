package watchdog

import (
	"errors"
	"fmt"
)

// Mode says whether the watchdog is used.
type Mode string

// The modes.
const (
	// Off leaves every watchdog alone.
	Off Mode = "off"
	// Automatic uses the device if it can be used.
	Automatic Mode = "automatic"
	// Required is an error where the device cannot be used.
	Required Mode = "required"
)

// ErrMode says that a word names no mode: a misspelling must not switch the
// watchdog off.
var ErrMode = errors.New("not a watchdog mode: expected off, automatic or required")

// ParseMode reads a mode.
//
// Errors: ErrMode.
func ParseMode(word string) (Mode, error) {
	switch m := Mode(word); m {
	case Off, Automatic, Required:
		return m, nil
	}
	return "", fmt.Errorf("%q: %w", word, ErrMode)
}
