package gate

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/logfield"
)

const netlinkRoute = unix.NETLINK_ROUTE

// Run attaches to interfaces that appear, and again to those that lost our
// filters, until ctx is done; then it returns nil. What it cannot gate it logs,
// once for each reason, and tries again. It can run once.
//
// Errors: ErrClosed, or that the kernel reports no changes any more.
func (g *Gate) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, g.changes.Close)
	defer stop()
	group.Go(func() error { return g.follow(ctx) })
	group.Go(func() error { return g.patrol(ctx) })
	return group.Wait()
}

// patrol looks at all interfaces now and then.
func (g *Gate) patrol(ctx context.Context) error {
	tick := time.NewTicker(g.recheck)
	defer tick.Stop()
	for {
		outcome, err := g.ensureAll()
		if errors.Is(err, ErrClosed) {
			return err
		}
		if outcome == nil {
			g.complain(0, "", err)
		}
		for index, err := range outcome {
			g.complain(index, "", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// follow acts on each change that the kernel reports.
func (g *Gate) follow(ctx context.Context) error {
	for {
		msgs, _, err := g.changes.Receive()
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // the socket was closed for that
		case err != nil && g.vips.Load() == nil:
			return fmt.Errorf("watch interfaces: %w", ErrClosed)
		case errors.Is(err, unix.ENOBUFS): // some were lost
			_, _ = g.ensureAll() // the next patrol complains
			continue
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("watch interfaces: %w", err)
		}
		for _, m := range msgs {
			g.react(m)
		}
	}
}

// react ensures the interface that a message is about.
func (g *Gate) react(m syscall.NetlinkMessage) {
	switch m.Header.Type {
	case unix.RTM_NEWLINK:
		h := unix.NlMsghdr(m.Header)
		if l, err := netlink.LinkDeserialize(&h, m.Data); err == nil {
			g.ensureOne(l)
		}
	case unix.RTM_DELQDISC, unix.RTM_DELTFILTER: // someone took it off?
		if len(m.Data) >= 8 { // struct tcmsg: the index follows four bytes
			index := int(binary.NativeEndian.Uint32(m.Data[4:8]))
			if l, err := g.linkByIndex(index); err == nil {
				g.ensureOne(l)
			}
		}
	}
}

func (g *Gate) linkByIndex(index int) (netlink.Link, error) {
	g.attaching.Lock()
	defer g.attaching.Unlock()
	return g.netlink.LinkByIndex(index)
}

func (g *Gate) ensureOne(l netlink.Link) {
	if isLoopback(l) {
		return
	}
	start := g.now()
	g.attaching.Lock()
	var changed bool
	err := ErrClosed
	if g.vips.Load() != nil {
		changed, err = g.ensure(l)
	}
	g.attaching.Unlock()
	g.complain(l.Attrs().Index, l.Attrs().Name, err)
	if changed && err == nil {
		g.log.Info("gated an interface", zap.String(logfield.Interface, l.Attrs().Name), zap.Duration(logfield.Took, g.now()-start))
	}
}

// complain logs an error when it is news.
func (g *Gate) complain(index int, name string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	g.attaching.Lock()
	news := g.failing[index] != text
	if text == "" {
		delete(g.failing, index)
	} else {
		g.failing[index] = text
	}
	g.attaching.Unlock()
	if news && err != nil {
		g.log.Error("an interface is not fully gated: it may answer for a VIP", zap.String(logfield.Interface, name), zap.Error(err))
	}
}
