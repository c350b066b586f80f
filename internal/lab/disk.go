package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// OwnDisk gives a directory of the host a file system of its own, in memory, of
// so many bytes, and what is in it then is hidden: FillDisk can fill it without
// harm to others. It lives as long as the host.
func (h *Host) OwnDisk(dir string, bytes int64) error {
	if err := os.MkdirAll(h.Path(dir), 0o755); err != nil {
		return fmt.Errorf("make %s on %s: %w", dir, h.name, err)
	}
	return h.Do(func() error { return mount("disk", dir, "tmpfs", 0, fmt.Sprintf("mode=755,size=%d", bytes)) })
}

// ZooKeeperDisk is the directory in which a server of StartZooKeeper on the host
// keeps what it must not lose: snapshots and log.
func (h *Host) ZooKeeperDisk() string {
	return filepath.Join(h.lab.dir, "zookeeper-"+h.name, "data", "version-2")
}

func filler(dir string) string { return filepath.Join(dir, "filler") }

// FillDisk fills the file system of a directory to the last byte.
func (h *Host) FillDisk(dir string) error {
	file, err := os.Create(h.Path(filler(dir)))
	if err != nil {
		return fmt.Errorf("fill the disk of %s on %s: %w", dir, h.name, err)
	}
	defer file.Close()
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		switch _, err := file.Write(chunk); {
		case errors.Is(err, unix.ENOSPC):
			chunk = chunk[:len(chunk)/2]
		case err != nil:
			return fmt.Errorf("fill the disk of %s on %s: %w", dir, h.name, err)
		}
	}
	return nil
}

// EmptyDisk takes FillDisk back; it may be called without one.
func (h *Host) EmptyDisk(dir string) error {
	if err := os.Remove(h.Path(filler(dir))); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make room on the disk of %s on %s: %w", dir, h.name, err)
	}
	return nil
}
