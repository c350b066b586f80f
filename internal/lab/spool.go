package lab

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// A spool is a directory through which commands reach a lab that another
// process, perhaps in another kernel, keeps up: plain files only, because a
// user-mode Linux shares no sockets and no pipes with its host.
//
//	ready         the lab is up; removed when it goes down
//	alive         a number that grows while the lab is served
//	stop          asks the lab to go down
//	jobs/         files of the commands, each with a name of its own:
//	  ID.request    one command, as JSON; renamed into place when complete
//	  ID.in         its stdin, there before the request
//	  ID.out ID.err its output, which grows
//	  ID.cancel     asks to kill it and to remove its files
//	  ID.exit       its exit status, renamed into place after all output
const (
	spoolReady = "ready"
	spoolAlive = "alive"
	spoolStop  = "stop"
	spoolJobs  = "jobs"

	spoolPoll  = 20 * time.Millisecond
	aliveEvery = 500 * time.Millisecond
	deadAfter  = 15 * time.Second // a loaded user-mode Linux can be silent for seconds
)

// The suffixes of a job's files that both sides look for in the directory.
const (
	requestFile = ".request"
	cancelFile  = ".cancel"
)

// ErrNoLab says that nobody serves the spool.
var ErrNoLab = errors.New("no lab is up there")

// Request is one command for a host of the lab.
type Request struct {
	Host string   `json:"host"`
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"` // added to the lab's own environment
}

// Exec runs a command on a host of the lab that Serve serves on the spool, and
// returns its exit status. stdin may be nil; it is read to its end first. When
// ctx ends, the command is killed.
func Exec(ctx context.Context, spool string, r Request, stdin io.Reader, stdout, stderr io.Writer) (int, error) {
	if _, err := os.Stat(filepath.Join(spool, spoolReady)); err != nil {
		return 0, fmt.Errorf("%s: %w", spool, ErrNoLab)
	}
	job := filepath.Join(spool, spoolJobs, rand.Text())
	if err := submit(job, r, stdin); err != nil {
		return 0, fmt.Errorf("hand over the command: %w", err)
	}
	status, err := follow(ctx, spool, job, stdout, stderr)
	if err != nil {
		_ = os.WriteFile(job+cancelFile, nil, 0o600) // the server removes the rest
		return 0, fmt.Errorf("%s: %s: %w", r.Host, strings.Join(r.Argv, " "), err)
	}
	removeJob(job)
	return status, nil
}

func submit(job string, r Request, stdin io.Reader) error {
	if stdin != nil {
		file, err := os.Create(job + ".in")
		if err != nil {
			return err
		}
		_, err = io.Copy(file, stdin)
		if err := errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return writeWhole(job+requestFile, data)
}

// writeWhole makes a file that is either missing or complete.
func writeWhole(path string, data []byte) error {
	if err := os.WriteFile(path+".part", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

func removeJob(job string) {
	for _, suffix := range []string{requestFile, cancelFile, ".in", ".out", ".err", ".exit"} {
		_ = os.Remove(job + suffix)
	}
}

// follow copies the output as it grows, until the exit status is there.
func follow(ctx context.Context, spool, job string, stdout, stderr io.Writer) (int, error) {
	out, err := &growing{path: job + ".out", to: stdout}, &growing{path: job + ".err", to: stderr}
	watch := newPulse(spool)
	for {
		// The status is looked for first: what is read after it is all.
		status, exitErr := os.ReadFile(job + ".exit")
		if err := errors.Join(out.copy(), err.copy()); err != nil {
			return 0, err
		}
		if exitErr == nil {
			return parseExit(string(status))
		}
		if err := watch.check(); err != nil {
			return 0, err
		}
		select {
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(spoolPoll):
		}
	}
}

// parseExit reads "STATUS" or "error: TEXT".
func parseExit(text string) (int, error) {
	if message, failed := strings.CutPrefix(text, "error: "); failed {
		return 0, errors.New(message)
	}
	return strconv.Atoi(text)
}

// growing is a file that another kernel appends to. It is opened afresh each
// time: an open file would keep the size that it had.
type growing struct {
	path string
	at   int64
	to   io.Writer
}

func (g *growing) copy() error {
	file, err := os.Open(g.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Seek(g.at, io.SeekStart); err != nil {
		return err
	}
	n, err := io.Copy(g.to, file)
	g.at += n
	return err
}

// pulse tells whether the spool is still served, by this process's clock.
type pulse struct {
	spool string
	last  string
	since time.Time
}

func newPulse(spool string) *pulse { return &pulse{spool: spool, since: time.Now()} }

func (p *pulse) check() error {
	data, _ := os.ReadFile(filepath.Join(p.spool, spoolAlive))
	if now := string(data); now != p.last {
		p.last, p.since = now, time.Now()
	}
	if _, err := os.Stat(filepath.Join(p.spool, spoolReady)); err != nil {
		return fmt.Errorf("%s: %w any more", p.spool, ErrNoLab)
	}
	if time.Since(p.since) > deadAfter {
		return fmt.Errorf("%s: the lab has given no sign of life for %v", p.spool, deadAfter)
	}
	return nil
}

// Down asks the lab that is served on the spool to end, and waits for it.
func Down(ctx context.Context, spool string) error {
	ready := filepath.Join(spool, spoolReady)
	if _, err := os.Stat(ready); err != nil {
		return fmt.Errorf("%s: %w", spool, ErrNoLab)
	}
	if err := os.WriteFile(filepath.Join(spool, spoolStop), nil, 0o600); err != nil {
		return fmt.Errorf("ask the lab to end: %w", err)
	}
	watch := newPulse(spool)
	for {
		if _, err := os.Stat(ready); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err := watch.check(); err != nil && !errors.Is(err, ErrNoLab) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the end of the lab: %w", context.Cause(ctx))
		case <-time.After(spoolPoll):
		}
	}
}

// Up tells whether a lab is served on the spool.
func Up(spool string) bool {
	_, err := os.Stat(filepath.Join(spool, spoolReady))
	return err == nil
}
