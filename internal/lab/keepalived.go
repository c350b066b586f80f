package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"
)

// KeepalivedConfig is what two keepalived hosts differ in, and what they share.
// What is not given is as in the exercise's notes.
type KeepalivedConfig struct {
	State    string // MASTER or BACKUP
	Priority int
	VIP      netip.Prefix
	// RealServers answer on port 80. Without any there is no virtual service, and
	// only keepalived's VRRP runs, which needs no IPVS.
	RealServers []netip.Addr
	// Scheduler of the virtual service; default rr.
	Scheduler string
	// RouterID is the virtual router's number, which tells pairs on one LAN apart;
	// default 51.
	RouterID int
	// Advert is the time between two advertisements. 0 is the notes' second, with
	// VRRP version 2 and its password; others mean version 3, whose unit is 10 ms
	// and which has no password (RFC 5798).
	Advert time.Duration
	// SyncID, not 0, has both hosts synchronize connections, under this id: the one
	// in state MASTER sends, the other one receives.
	SyncID int
}

// text is the configuration file.
func (c KeepalivedConfig) text() string {
	if c.RouterID == 0 {
		c.RouterID = 51
	}
	if c.Scheduler == "" {
		c.Scheduler = "rr"
	}
	var b strings.Builder
	b.WriteString("global_defs {\n    router_id LVS_DEVEL\n")
	if c.SyncID != 0 {
		fmt.Fprintf(&b, "    lvs_sync_daemon eth0 VI_1 id %d\n", c.SyncID)
	}
	b.WriteString("}\n")
	fmt.Fprintf(&b, "vrrp_instance VI_1 {\n    state %s\n    interface eth0\n    virtual_router_id %d\n    priority %d\n", c.State, c.RouterID, c.Priority)
	if c.Advert == 0 {
		b.WriteString("    advert_int 1\n    authentication {\n        auth_type PASS\n        auth_pass 1111\n    }\n")
	} else {
		fmt.Fprintf(&b, "    version 3\n    advert_int %.2f\n", c.Advert.Seconds())
	}
	fmt.Fprintf(&b, "    virtual_ipaddress {\n        %s dev eth0 label eth0:3\n    }\n}\n", c.VIP)
	if len(c.RealServers) == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "virtual_server %s 80 {\n    delay_loop 5\n    lb_algo %s\n    lb_kind DR\n    protocol TCP\n", c.VIP.Addr(), c.Scheduler)
	for _, address := range c.RealServers {
		fmt.Fprintf(&b, keepalivedRealServer, address)
	}
	b.WriteString("}\n")
	return b.String()
}

const keepalivedRealServer = `    real_server %s 80 {
        weight 1
        HTTP_GET {
            url {
                path /
                status_code 200
            }
            connect_timeout 5
            retry 2
            delay_before_retry 3
        }
    }
`

// StartKeepalived starts keepalived on a host, for comparison. It returns when
// the daemon and its children run; Host.Crash kills them all.
func StartKeepalived(ctx context.Context, h *Host, c KeepalivedConfig) (*Process, error) {
	const file = "/run/keepalived/keepalived.conf"
	if err := h.WriteFile(file, c.text()); err != nil {
		return nil, err
	}
	argv := []string{"keepalived", "--dont-fork", "--log-console", "--log-detail", "--use-file", file}
	for flag, pid := range map[string]string{"--pid": "pid", "--vrrp_pid": "vrrp.pid", "--checkers_pid": "checkers.pid"} {
		pid = "/run/keepalived/" + pid
		// A killed child that nobody has reaped yet would count as a daemon that runs.
		if err := os.Remove(h.Path(pid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("start keepalived on %s: %w", h.name, err)
		}
		argv = append(argv, flag, pid)
	}
	if len(c.RealServers) == 0 {
		argv = append(argv, "--vrrp") // the checkers' process would ask for ip_vs
	}
	p, err := h.Start(argv...)
	if err != nil {
		return nil, err
	}
	if err := p.WaitLog(ctx, "Startup complete"); err != nil {
		return nil, fmt.Errorf("start keepalived on %s: %w", h.name, err)
	}
	return p, nil
}
