// Package control is a director's admin socket: HTTP with JSON on a unix
// socket that only its owner may open (mode 0600). It decides nothing. Status is
// asked for as often as one likes; views, which may be long, are answered one at a
// time.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

const (
	statusPath = "/v1/status"
	// maxAnswer bounds what a client reads, in bytes.
	maxAnswer = 64 << 20
	timeout   = 5 * time.Second
)

// Server answers on the admin socket.
type Server struct {
	path   string
	status func() any
	views  map[string]View
}

// NewServer returns a server on the socket at path; status is asked for each
// request and must be encodable as JSON. Views are what else can be asked, by name.
func NewServer(path string, status func() any, views map[string]View) *Server {
	return &Server{path: path, status: status, views: views}
}

// Run serves until ctx ends and removes the socket. A socket that an earlier
// life left is replaced: the caller makes sure that no such life runs.
func (s *Server) Run(ctx context.Context) error {
	l, err := listen(s.path)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// the client sees a broken answer as such; there is nobody else to tell
		_ = json.NewEncoder(w).Encode(s.status())
	})
	s.serveViews(mux)
	srv := &http.Server{Handler: mux, ReadTimeout: timeout, WriteTimeout: timeout, IdleTimeout: timeout, MaxHeaderBytes: 8 << 10}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin socket %s: %w", s.path, err)
	}
	return nil
}

// listen makes the socket in a place where nobody else can open it before its
// mode is set.
func listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if st, err := os.Lstat(path); err == nil && st.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("admin socket %s: there is a file that is no socket: remove it, or set control_socket", path)
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(tmp)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp})
	if err != nil {
		return nil, fmt.Errorf("admin socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(tmp, 0o600), os.Rename(tmp, path)); err != nil {
		l.Close()
		return nil, fmt.Errorf("admin socket %s: %w", path, err)
	}
	return &unlinking{l, path}, nil
}

// unlinking removes the socket's file, which was renamed, on close.
type unlinking struct {
	*net.UnixListener
	path string
}

// Close implements net.Listener.
func (u *unlinking) Close() error {
	_ = os.Remove(u.path)
	return u.UnixListener.Close()
}

// Status asks the director on the socket at path for its status.
func Status(ctx context.Context, path string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return get(ctx, path, statusPath, func(resp *http.Response) error {
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(into); err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		return nil
	})
}

// get asks on the socket at path.
func get(ctx context.Context, path, what string, read func(*http.Response) error) error {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://director"+what, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("admin socket %s: %w", path, err)
	}
	defer resp.Body.Close()
	if err := read(resp); err != nil {
		return fmt.Errorf("admin socket %s: %w", path, err)
	}
	return nil
}
