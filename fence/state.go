package fence

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

const (
	stateFormat  = 1
	maxState     = 1 << 20 // bytes read at most
	maxStateVIPs = 10000
)

// state is the file in which a life of the process tells the next one what it
// may have left bound. It is written before an address is bound.
type state struct {
	Format int   `json:"format"`
	VIPs   []VIP `json:"vips"`
}

// parseState reads and checks a state file's content.
func parseState(data []byte) ([]VIP, error) {
	if len(data) > maxState {
		return nil, fmt.Errorf("more than %d bytes", maxState)
	}
	var s state
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the end")
	}
	switch {
	case s.Format != stateFormat:
		return nil, fmt.Errorf("format %d: expected %d", s.Format, stateFormat)
	case len(s.VIPs) > maxStateVIPs:
		return nil, fmt.Errorf("%d VIPs: expected at most %d", len(s.VIPs), maxStateVIPs)
	}
	for _, v := range s.VIPs {
		if err := v.Validate(); err != nil {
			return nil, err
		}
	}
	return s.VIPs, nil
}

// loadState reads the file; none means nothing was left.
func loadState(path string) ([]VIP, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the list of bound VIPs: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return nil, fmt.Errorf("read the list of bound VIPs: %w", err)
	}
	vips, err := parseState(data)
	if err != nil {
		return nil, fmt.Errorf("the list of bound VIPs in %s is not understood: %w; make sure with `ip address` that no VIP is bound, then remove the file", path, err)
	}
	return vips, nil
}

// saveState replaces the file in one step. The file describes this boot only,
// so it need not survive a power failure.
func saveState(path string, vips []VIP) error {
	data, err := json.Marshal(state{Format: stateFormat, VIPs: vips})
	if err != nil {
		return fmt.Errorf("encode the list of bound VIPs: %w", err)
	}
	if err := writeFile(path, append(data, '\n')); err != nil {
		return fmt.Errorf("write the list of bound VIPs: %w", err)
	}
	return nil
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".vips-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
