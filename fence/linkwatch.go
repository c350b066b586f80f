package fence

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// LinkWatch tells that some interface of this network namespace changed. What
// changed is for the listener to read: hints are coalesced.
type LinkWatch struct {
	socket *nl.NetlinkSocket
	hints  chan struct{}
}

// NewLinkWatch subscribes in the calling thread's network namespace, so that
// no change after it is missed. Run or Close releases it.
func NewLinkWatch() (*LinkWatch, error) {
	s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		return nil, fmt.Errorf("subscribe to changes of interfaces: %w", err)
	}
	return &LinkWatch{socket: s, hints: make(chan struct{}, 1)}, nil
}

// Hints yields one value after one or more changes.
func (w *LinkWatch) Hints() <-chan struct{} { return w.hints }

// Close ends the subscription; Run returns.
func (w *LinkWatch) Close() { w.socket.Close() }

// Run passes changes on until ctx is done, then closes the subscription and
// returns nil. An overflow of the kernel's queue counts as a change.
func (w *LinkWatch) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, w.Close)
	defer func() {
		if stop() {
			w.Close()
		}
	}()
	for {
		_, _, err := w.socket.Receive()
		switch {
		case ctx.Err() != nil, errors.Is(err, os.ErrClosed):
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("watch interfaces: %w", err)
		}
		select {
		case w.hints <- struct{}{}:
		default:
		}
	}
}
