package control

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

type thing struct {
	N int `json:"n"`
}

func count(_ context.Context, query url.Values, item func(any) error) (any, error) {
	var n int
	if _, err := fmt.Sscan(query.Get("n"), &n); err != nil {
		return nil, fmt.Errorf("n: %w", err)
	}
	for i := range n {
		if err := item(thing{i}); err != nil {
			return nil, err
		}
	}
	return map[string]bool{"all": true}, nil
}

func TestView(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sock")
	serveViews(t, path, func() any { return 7 }, map[string]View{"count": count})
	for _, n := range []int{0, 1, 50_000} {
		items, end, err := Ask[thing, map[string]bool](t.Context(), path, "count", url.Values{"n": {fmt.Sprint(n)}})
		if err != nil || len(items) != n || !end["all"] || n > 0 && items[n-1].N != n-1 {
			t.Errorf("%d: %d items, end %v, %v", n, len(items), end, err)
		}
	}
	_, _, err := Ask[thing, any](t.Context(), path, "count", url.Values{"n": {"x"}})
	if err == nil || !strings.HasPrefix(err.Error(), "admin socket "+path+": n: ") {
		t.Errorf("error %v, want the view's own", err)
	}
	if _, _, err := Ask[thing, any](t.Context(), path, "other", nil); !errors.Is(err, ErrNoView) {
		t.Errorf("error %v, want ErrNoView", err)
	}
	var got int
	if err := Status(t.Context(), path, &got); err != nil || got != 7 {
		t.Errorf("status %d, %v", got, err)
	}
}

// An answer that ends before its end is no answer.
func TestViewBrokenOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sock")
	serveViews(t, path, nil, map[string]View{"broken": func(_ context.Context, _ url.Values, item func(any) error) (any, error) {
		_ = item(thing{1})
		return make(chan int), nil // cannot be encoded
	}})
	if _, _, err := Ask[thing, any](t.Context(), path, "broken", nil); err == nil || !strings.Contains(err.Error(), "broken off") {
		t.Errorf("error %v", err)
	}
}

// One view at a time, and one whose client has gone lets the next one in.
func TestViewsTakeTurns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.sock")
	var inside, most atomic.Int32
	begun := make(chan struct{})
	serveViews(t, path, nil, map[string]View{
		"hangs": func(ctx context.Context, _ url.Values, _ func(any) error) (any, error) {
			inside.Add(1)
			defer inside.Add(-1)
			close(begun)
			<-ctx.Done()
			return nil, ctx.Err()
		},
		"quick": func(context.Context, url.Values, func(any) error) (any, error) {
			if n := inside.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer inside.Add(-1)
			return 1, nil
		}})
	ctx, leave := context.WithCancel(t.Context())
	errs := make(chan error, 5)
	go func() { _, _, err := Ask[int, int](ctx, path, "hangs", nil); errs <- err }()
	<-begun
	for range 4 {
		go func() { _, _, err := Ask[int, int](t.Context(), path, "quick", nil); errs <- err }()
	}
	leave()
	var failed []error
	for range 5 {
		if err := <-errs; err != nil {
			failed = append(failed, err)
		}
	}
	if len(failed) != 1 || !slices.ContainsFunc(failed, func(err error) bool { return errors.Is(err, context.Canceled) }) {
		t.Errorf("errors %v, want one of the client that left", failed)
	}
	if most.Load() != 1 {
		t.Errorf("%d views at once", most.Load())
	}
}
