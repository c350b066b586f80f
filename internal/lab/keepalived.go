package lab

import (
	"context"
	"fmt"
	"net/netip"
)

// KeepalivedConfig is what two keepalived hosts differ in, and their VIP.
type KeepalivedConfig struct {
	State    string // MASTER or BACKUP
	Priority int
	VIP      netip.Prefix
	// RealServers answer on port 80.
	RealServers []netip.Addr
}

// keepalivedConfig is that of the exercise's notes: VRRP with one advertisement
// a second, a virtual service with direct routing and an HTTP check.
const keepalivedConfig = `global_defs {
    router_id LVS_DEVEL
}
vrrp_instance VI_1 {
    state %s
    interface eth0
    virtual_router_id 51
    priority %d
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass 1111
    }
    virtual_ipaddress {
        %s dev eth0 label eth0:3
    }
}
virtual_server %s 80 {
    delay_loop 5
    lb_algo rr
    lb_kind DR
    protocol TCP
%s}
`

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
	var servers string
	for _, address := range c.RealServers {
		servers += fmt.Sprintf(keepalivedRealServer, address)
	}
	const file = "/run/keepalived/keepalived.conf"
	if err := h.WriteFile(file, fmt.Sprintf(keepalivedConfig, c.State, c.Priority, c.VIP, c.VIP.Addr(), servers)); err != nil {
		return nil, err
	}
	p, err := h.Start("keepalived", "--dont-fork", "--log-console", "--log-detail", "--use-file", file, "--pid", "/run/keepalived/pid",
		"--vrrp_pid", "/run/keepalived/vrrp.pid", "--checkers_pid", "/run/keepalived/checkers.pid")
	if err != nil {
		return nil, err
	}
	if err := p.WaitLog(ctx, "Startup complete"); err != nil {
		return nil, fmt.Errorf("start keepalived on %s: %w", h.name, err)
	}
	return p, nil
}
