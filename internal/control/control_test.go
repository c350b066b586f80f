package control

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func serve(t *testing.T, path string, status func() any) {
	t.Helper()
	serveViews(t, path, status, nil)
}

func serveViews(t *testing.T, path string, status func() any, views map[string]View) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewServer(path, status, views).Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is left behind: %v", err)
		}
	})
	deadline := time.After(10 * time.Second)
	for {
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-deadline:
			t.Fatal("no admin socket within 10 s")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestStatusOverTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "web.sock")
	serve(t, path, func() any { return map[string]int{"epoch": 7} })
	var got map[string]int
	if err := Status(t.Context(), path, &got); err != nil {
		t.Fatal(err)
	}
	if got["epoch"] != 7 {
		t.Errorf("status %v, want epoch 7", got)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %o, want 600", st.Mode().Perm())
	}
}

func TestSocketOfAnEarlierLifeIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	serve(t, path, func() any { return 1 })
	var got int
	if err := Status(t.Context(), path, &got); err != nil || got != 1 {
		t.Fatalf("status %d, %v", got, err)
	}
}

func TestForeignFileIsNotTouched(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sock")
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := NewServer(path, nil, nil).Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Fatalf("error %v, want one that says it is no socket", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "mine" {
		t.Errorf("the file now holds %q", b)
	}
}
