// Package statefile keeps what a program must remember of one boot in a small
// JSON file.
//
// Guaranteed: a file is replaced in one step, so that a reader finds the old
// content or the new, after a crash too. What is read is bounded, and nothing in
// it that the reader does not know is passed over.
//
// Not guaranteed: that two writers do not undo each other's work. Let one process
// write a file.
package statefile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Max is how large a file may be, in bytes.
const Max = 1 << 20

// Read returns the content of a regular file of at most Max bytes. One that does
// not exist gives an error that wraps fs.ErrNotExist.
func Read(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // a pipe would keep the reader waiting
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, Max+1)) // Decode refuses the last byte
}

// Decode reads a file's content strictly.
func Decode(data []byte, v any) error {
	if len(data) > Max {
		return fmt.Errorf("more than %d bytes", Max)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("text after the end")
	}
	return nil
}

// Write replaces a file, and makes its directory if need be.
func Write(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	dir, name := filepath.Split(path)
	if err := os.MkdirAll(filepath.Clean(dir), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Clean(dir), "."+name+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(append(data, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Remove removes a file, which need not exist.
func Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
