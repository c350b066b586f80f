package nft

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/gate"
)

// Run covers interfaces that appear or change their name, and puts back what
// others removed, until ctx is done; then it returns nil. What it cannot gate it
// logs, once for each reason, and tries again. It can run once.
//
// Errors: gate.ErrClosed, or that the kernel reports no changes any more.
func (g *Gate) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() {
		for _, s := range g.changes {
			s.Close()
		}
	})
	defer stop()
	for _, s := range g.changes {
		group.Go(func() error { return g.follow(ctx, s) })
	}
	group.Go(func() error { return g.patrol(ctx) })
	return group.Wait()
}

func (g *Gate) look() error {
	outcome, err := g.ensure()
	if errors.Is(err, gate.ErrClosed) {
		return err
	}
	if outcome == nil {
		g.complain(0, err)
	}
	for index, err := range outcome {
		g.complain(index, err)
	}
	return nil
}

// patrol looks at everything now and then.
func (g *Gate) patrol(ctx context.Context) error {
	tick := time.NewTicker(g.config.Recheck)
	defer tick.Stop()
	for {
		if err := g.look(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// follow looks at everything when the kernel reports a change that matters.
func (g *Gate) follow(ctx context.Context, changes *nl.NetlinkSocket) error {
	for {
		msgs, _, err := changes.Receive()
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the socket was closed for that
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil && g.isClosed():
			return fmt.Errorf("watch interfaces and tables: %w", gate.ErrClosed)
		case err != nil && !errors.Is(err, unix.ENOBUFS): // with the latter, some were lost
			return fmt.Errorf("watch interfaces and tables: %w", err)
		case err == nil && !matters(msgs):
			continue
		}
		if err := g.look(); err != nil {
			return err
		}
	}
}

func (g *Gate) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// matters: elements come and go with every Set.
func matters(msgs []syscall.NetlinkMessage) bool {
	const nftables = unix.NFNL_SUBSYS_NFTABLES << 8
	for _, m := range msgs {
		switch m.Header.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK,
			nftables | unix.NFT_MSG_DELTABLE, nftables | unix.NFT_MSG_DELCHAIN:
			return true
		}
	}
	return false
}
