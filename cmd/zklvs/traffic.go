package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/zklvs/zklvs/ipvs"
)

// sampleSize is how much of the kernel's list of connections is read where not all
// of it is asked for, about 1,000 entries: the kernel walks the list from its start
// for every piece, so that a whole read takes as long as the square of its length
// (100,000 entries: 13 s in user-mode Linux). It is in the order of a hash, so that
// its beginning is a fair sample.
const sampleSize = 64 << 10

// traffic reads what passes through this host's IPVS table, over a socket of its
// own: a read of many services takes seconds, and what makes the rules must never
// wait for it.
type traffic struct {
	connections string // the kernel's list of connections

	mu    sync.Mutex // guards table
	table *ipvs.Table
}

// open returns the table, which is opened when it is first needed.
func (t *traffic) open() (*ipvs.Table, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.table == nil {
		table, err := ipvs.Open()
		if err != nil {
			return nil, err
		}
		t.table = table
	}
	return t.table, nil
}

// Stats implements director.Traffic.
func (t *traffic) Stats() ([]ipvs.ServiceStats, error) {
	table, err := t.open()
	if err != nil {
		return nil, err
	}
	return table.Stats()
}

// Timeouts are this host's.
func (t *traffic) Timeouts() (ipvs.Timeouts, error) {
	table, err := t.open()
	if err != nil {
		return ipvs.Timeouts{}, err
	}
	return table.Timeouts()
}

// Sample implements director.Traffic.
func (t *traffic) Sample() (out []ipvs.Conn, err error) {
	_, err = t.list(sampleSize, 0, func(c ipvs.Conn) error {
		out = append(out, c)
		return nil
	})
	return out, err
}

// list gives entries of the list of connections, of at most so many bytes and so
// many entries; 0 is no limit. Whole tells that there are no more.
func (t *traffic) list(size, limit int, each func(ipvs.Conn) error) (whole bool, err error) {
	f, err := os.Open(t.connections)
	if err != nil {
		return false, fmt.Errorf("read the connection table: %w: is the module ip_vs loaded?", err)
	}
	defer f.Close()
	pieces := &pieces{file: f}
	for read, n := 0, 0; ; {
		piece, err := pieces.next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("read the connection table: %w", err)
		}
		entries, err := ipvs.Connections(bytes.NewReader(piece), 0)
		if err != nil {
			return false, err
		}
		for _, c := range entries {
			if limit > 0 && n == limit {
				return false, nil
			}
			n++
			if err := each(c); err != nil {
				return false, err
			}
		}
		if read += len(piece); size > 0 && read >= size {
			return pieces.done(), nil
		}
	}
}

// pieces cuts the list at ends of lines, so that a long one need not be held at
// once. Each piece has a first line that is no entry, as the list has.
type pieces struct {
	file io.Reader
	rest []byte // the beginning of a line
	head bool   // the list's own heading has been passed on
	end  bool
}

// pieceSize is that of one read. A file of /proc gives a page, or little more.
const pieceSize = 16 << 10

func (p *pieces) next() ([]byte, error) {
	if p.end {
		return nil, io.EOF
	}
	buf := make([]byte, 0, pieceSize+len(p.rest)+1)
	if p.head {
		buf = append(buf, '\n')
	}
	buf = append(buf, p.rest...)
	for {
		n, err := p.file.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if errors.Is(err, io.EOF) {
			p.end = true
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
		if i := bytes.LastIndexByte(buf, '\n'); i > 0 {
			p.rest, p.head = bytes.Clone(buf[i+1:]), true
			return buf[:i+1], nil
		}
		if len(buf) == cap(buf) {
			return nil, fmt.Errorf("a line has more than %d bytes", len(buf))
		}
	}
}

// done tells whether nothing is left.
func (p *pieces) done() bool {
	if p.end {
		return true
	}
	piece, err := p.next()
	return errors.Is(err, io.EOF) || err == nil && len(bytes.TrimSpace(piece)) == 0
}

// close frees the socket.
func (t *traffic) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.table != nil {
		t.table.Close()
	}
}
