package nft

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/fence/gate"
)

// patience is how long a reply of the kernel is waited for. It is there when
// the request returns; a lost one must not block for ever.
const patience = time.Second

// conn is a connection to the nftables of the namespace of the thread that
// opened it.
type conn struct {
	*nftables.Conn
	socket *netlink.Conn
}

func dial() (*conn, error) {
	c := &conn{}
	var err error
	c.Conn, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(s *netlink.Conn) error {
		c.socket = s
		return nil
	}))
	if err != nil {
		return nil, fmt.Errorf("%w: open nftables: %w", gate.ErrNotSupported, explain(err))
	}
	return c, nil
}

// commit carries out what was queued, all of it or nothing.
func (c *conn) commit() error {
	c.expect()
	err := c.Flush()
	if err != nil {
		c.drain()
	}
	return err
}

// expect is to be called before each request.
func (c *conn) expect() { _ = c.socket.SetDeadline(time.Now().Add(patience)) }

// drain reads what an error left unread, so that no later request takes it for
// its own reply. The kernel has answered before a request returns.
func (c *conn) drain() {
	_ = c.socket.SetDeadline(time.Now().Add(5 * time.Millisecond))
	for range 10_000 {
		if _, err := c.socket.Receive(); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

func (c *conn) close() { _ = c.CloseLasting() }

// chains returns the names of the chains of our table; nil if there is none.
func (c *conn) chains() (map[string]bool, error) {
	c.expect()
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyNetdev)
	if err != nil {
		c.drain()
		return nil, fmt.Errorf("list chains: %w", err)
	}
	var names map[string]bool
	for _, chain := range all {
		if chain.Table != nil && chain.Table.Name == tableName {
			if names == nil {
				names = map[string]bool{}
			}
			names[chain.Name] = true
		}
	}
	return names, nil
}

// exists reports whether there is a table of that name.
func (c *conn) exists(name string) (bool, error) {
	c.expect()
	all, err := c.ListTablesOfFamily(nftables.TableFamilyNetdev)
	if err != nil {
		c.drain()
		return false, fmt.Errorf("list tables: %w", err)
	}
	for _, t := range all {
		if t.Name == name {
			return true, nil
		}
	}
	return false, nil
}

// missing reports whether err says that a named object is not there.
func missing(err error) bool { return errors.Is(err, unix.ENOENT) }

// explain adds what an operator can do.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: needs CAP_NET_ADMIN (run as root)", err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: this kernel has no nftables (CONFIG_NF_TABLES)", err)
	case errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("%w: this kernel has no nftables for network devices (CONFIG_NF_TABLES_NETDEV)", err)
	}
	return err
}
