package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// View answers a question with a list, item by item, so that nobody holds all of a
// long one, and with what is to be said at its end. Items and end must be encodable
// as JSON. ctx ends when the one who asked goes away.
type View func(ctx context.Context, query url.Values, item func(any) error) (end any, err error)

const (
	viewPath = "/v1/view/"
	// viewTimeout bounds a view, the wait for another one included: ten thousand
	// services take seconds to read.
	viewTimeout = 2 * time.Minute
)

// ErrNoView says that the director does not know the view: it is older than the
// one who asks.
var ErrNoView = errors.New("the director does not know this view")

// frame is one line of an answer. The last one has End or Error: an answer without
// is broken off.
type frame[I, E any] struct {
	Item  *I     `json:"item,omitempty"`
	End   *E     `json:"end,omitempty"`
	Error string `json:"error,omitempty"`
}

// serveViews answers one view at a time: what it costs then is bounded, however
// many ask.
func (s *Server) serveViews(mux *http.ServeMux) {
	turn := make(chan struct{}, 1)
	for name, view := range s.views {
		mux.HandleFunc("GET "+viewPath+name, func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), viewTimeout)
			defer cancel()
			c := http.NewResponseController(w)
			deadline := time.Now().Add(viewTimeout)
			// Without them the server's usual deadlines stand.
			_, _ = c.SetReadDeadline(deadline), c.SetWriteDeadline(deadline)
			select {
			case turn <- struct{}{}:
				defer func() { <-turn }()
			case <-ctx.Done():
				return // nobody is there any more
			}
			answer(ctx, w, r.URL.Query(), view)
		})
	}
}

// answer writes a view. The client sees a broken answer as such; there is nobody
// else to tell.
func answer(ctx context.Context, w http.ResponseWriter, query url.Values, view View) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	end, err := view(ctx, query, func(v any) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return out.Encode(frame[any, any]{Item: &v})
	})
	last := frame[any, any]{End: &end}
	if err != nil {
		last = frame[any, any]{Error: err.Error()}
	}
	_ = out.Encode(last)
}

// Ask asks the director on the socket at path for a view: its items and its end.
// The error wraps ErrNoView where the director has no such view; what the view
// itself fails with is in the text.
func Ask[I, E any](ctx context.Context, path, name string, query url.Values) (items []I, end E, err error) {
	ctx, cancel := context.WithTimeout(ctx, viewTimeout)
	defer cancel()
	err = get(ctx, path, viewPath+name+"?"+query.Encode(), func(resp *http.Response) error {
		switch resp.StatusCode {
		case http.StatusOK:
		case http.StatusNotFound:
			return ErrNoView
		default:
			return errors.New(resp.Status)
		}
		in := json.NewDecoder(resp.Body)
		for {
			var f frame[I, E]
			if err := in.Decode(&f); err != nil {
				return fmt.Errorf("the answer is broken off: %w", noEOF(err))
			}
			switch {
			case f.Error != "":
				return errors.New(f.Error)
			case f.End != nil:
				end = *f.End
				return nil
			case f.Item != nil:
				items = append(items, *f.Item)
			}
		}
	})
	return items, end, err
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
