package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/zklvs/zklvs/internal/boottime"
)

// RequesterOptions shape a steady stream of HTTP requests; the zero value of all
// but Target is a usual one.
type RequesterOptions struct {
	Target netip.AddrPort
	// Interval is the time from one request's start to the next one's; default 10
	// ms. After a stall the missed ones are not made up for by a burst.
	Interval time.Duration
	// Timeout is how long a request may take, TCP's retransmissions included, until
	// it counts as lost; default 10 s.
	Timeout time.Duration
	// Concurrency is how many requests may be under way; default 512. One that is
	// due while there is no room is lost, with ErrNoRoom.
	Concurrency int
	// Total ends Run after so many requests and their outcomes; 0: until its ctx ends.
	Total int
	// Keep is how many of the newest outcomes are kept; default 100,000. The tally
	// counts all.
	Keep int
}

func (o *RequesterOptions) complete() error {
	if !o.Target.IsValid() {
		return errors.New("no target is given")
	}
	if o.Interval < 0 || o.Timeout < 0 || o.Concurrency < 0 || o.Total < 0 || o.Keep < 0 {
		return fmt.Errorf("an option is negative: %+v", *o)
	}
	for _, d := range []struct {
		at       *time.Duration
		fallback time.Duration
	}{{&o.Interval, 10 * time.Millisecond}, {&o.Timeout, 10 * time.Second}} {
		if *d.at == 0 {
			*d.at = d.fallback
		}
	}
	if o.Concurrency == 0 {
		o.Concurrency = 512
	}
	if o.Keep == 0 {
		o.Keep = 100_000
	}
	return nil
}

// ErrNoRoom is the outcome of a request that could not begin because as many as
// allowed were under way.
var ErrNoRoom = errors.New("too many requests are under way")

// ErrNoAnswer is the outcome of a request that got no whole answer in time.
var ErrNoAnswer = errors.New("no answer in time")

// Outcome is what became of one request.
type Outcome struct {
	Number int // from 0
	// CLOCK_BOOTTIME: just before connecting, when the connection was seen to stand
	// (0: it never did), and when the whole answer was there or the request lost.
	Begun, Connected, Ended time.Duration
	// Server is the answer's body, which names who answered; see StartNginx.
	Server string
	// Err is nil for an answer with status 200, else why the request is lost.
	Err error
}

// Took is the time from a request's beginning to its end.
func (o Outcome) Took() time.Duration { return o.Ended - o.Begun }

// Tally counts the requests so far. What is neither answered nor lost is under way,
// or was when Run ended.
type Tally struct{ Sent, Answered, Lost int }

// Requester is a client that asks a web server at a steady rate, each time on a
// fresh connection, and notes what becomes of each request. Requests overlap: a
// slow one delays no other. One that TCP brings through late, by its
// retransmissions, is answered; Outcome tells how long it took.
//
// Its memory is bounded by its options however long it runs.
type Requester struct {
	host    *Host
	options RequesterOptions

	mu       sync.Mutex
	tally    Tally
	outcomes []Outcome // a ring of options.Keep
	next     int       // where the next outcome goes once the ring is full
}

// NewRequester prepares to ask from inside a host. Run asks, once.
func NewRequester(h *Host, options RequesterOptions) (*Requester, error) {
	if err := options.complete(); err != nil {
		return nil, fmt.Errorf("ask %s from %s: %w", options.Target, h.name, err)
	}
	return &Requester{host: h, options: options}, nil
}

// Run asks until ctx ends, or until the total is reached and each request has its
// outcome. What is under way when ctx ends has none.
func (r *Requester) Run(ctx context.Context) error {
	err := r.host.Do(func() error {
		f, err := newFlights(r.options.Target)
		if err != nil {
			return err
		}
		defer f.close()
		return r.loop(ctx, f)
	})
	if err != nil {
		return fmt.Errorf("ask %s from %s: %w", r.options.Target, r.host.name, err)
	}
	return nil
}

func (r *Requester) loop(ctx context.Context, f *flights) error {
	due := boottime.Now()
	for number := 0; ctx.Err() == nil; {
		now := boottime.Now()
		r.note(f.expire(now - r.options.Timeout)...)
		more := r.options.Total == 0 || number < r.options.Total
		if !more && len(f.byFD) == 0 {
			return nil
		}
		if more && now >= due {
			r.begin(f, number)
			number++
			due = max(due+r.options.Interval, now)
			continue
		}
		wait := 50 * time.Millisecond // to see ctx end, and requests expire
		if more {
			wait = min(wait, due-now)
		}
		ended, err := f.wait(wait)
		if err != nil {
			return err
		}
		r.note(ended...)
	}
	return nil
}

// begin starts a request, which may end at once.
func (r *Requester) begin(f *flights, number int) {
	r.mu.Lock()
	r.tally.Sent++
	r.mu.Unlock()
	o := Outcome{Number: number, Begun: boottime.Now(), Err: ErrNoRoom}
	if len(f.byFD) < r.options.Concurrency {
		o.Err = f.begin(number, o.Begun)
	}
	if o.Err != nil {
		o.Ended = boottime.Now()
		r.note(o)
	}
}

func (r *Requester) note(ended ...Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range ended {
		if o.Err == nil {
			r.tally.Answered++
		} else {
			r.tally.Lost++
		}
		if len(r.outcomes) < r.options.Keep {
			r.outcomes = append(r.outcomes, o)
			continue
		}
		r.outcomes[r.next] = o
		r.next = (r.next + 1) % r.options.Keep
	}
}

// Tally returns the counts so far.
func (r *Requester) Tally() Tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tally
}

// Outcomes returns what is kept of the requests that began at or after a time, in
// the order in which they ended.
func (r *Requester) Outcomes(since time.Duration) []Outcome {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Outcome
	for i := range r.outcomes {
		if o := r.outcomes[(r.next+i)%len(r.outcomes)]; o.Begun >= since {
			found = append(found, o)
		}
	}
	return found
}

// readAnswer tells whether data is a whole HTTP answer with a Content-Length, and
// which server it names; an answer that is not 200 is an error.
func readAnswer(data []byte) (server string, whole bool, err error) {
	head, body, found := bytes.Cut(data, []byte("\r\n\r\n"))
	if !found {
		return "", false, nil
	}
	status, fields, _ := bytes.Cut(head, []byte("\r\n"))
	if words := bytes.Fields(status); len(words) < 2 || !bytes.HasPrefix(words[0], []byte("HTTP/1.")) || string(words[1]) != "200" {
		return "", true, fmt.Errorf("the answer is %q", status)
	}
	length := -1
	for line := range bytes.Lines(fields) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if bytes.EqualFold(name, []byte("Content-Length")) {
			if _, err := fmt.Sscan(string(value), &length); err != nil {
				return "", true, fmt.Errorf("the answer's length is %q: %w", value, err)
			}
		}
	}
	if length < 0 {
		return "", true, errors.New("the answer has no Content-Length")
	}
	if len(body) < length {
		return "", false, nil
	}
	return string(bytes.TrimSpace(body[:length])), true, nil
}
