// Package kernel carries with-ipvs, the script that runs a command in a kernel
// with IPVS, for programs that have no checkout beside them.
package kernel

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed with-ipvs inside guest-init
var scripts embed.FS

// Extract writes the scripts into an existing directory and returns the path of
// with-ipvs.
func Extract(dir string) (string, error) {
	entries, err := fs.ReadDir(scripts, ".")
	if err != nil {
		return "", fmt.Errorf("list the kernel scripts: %w", err)
	}
	for _, e := range entries {
		data, err := scripts.ReadFile(e.Name())
		if err != nil {
			return "", fmt.Errorf("read script %s: %w", e.Name(), err)
		}
		if err := os.WriteFile(filepath.Join(dir, e.Name()), data, 0o755); err != nil {
			return "", fmt.Errorf("extract script %s: %w", e.Name(), err)
		}
	}
	return filepath.Join(dir, "with-ipvs"), nil
}
