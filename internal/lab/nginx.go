package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// nginxConfig serves one body for every path. One process without a master, so
// that killing it leaves nobody behind; everything it writes is in /run.
const nginxConfig = `daemon off;
master_process off;
pid /run/nginx/pid;
error_log stderr;
events { worker_connections 1024; }
http {
  access_log /run/nginx/access.log;
  client_body_temp_path /run/nginx/body;
  proxy_temp_path /run/nginx/proxy;
  fastcgi_temp_path /run/nginx/fastcgi;
  uwsgi_temp_path /run/nginx/uwsgi;
  scgi_temp_path /run/nginx/scgi;
  default_type text/plain;
  keepalive_timeout 300s;
  keepalive_requests 1000000;
  server {
    listen 0.0.0.0:80;
    location / { return 200 "%s\n"; }
  }
}
`

// StartNginx starts nginx on port 80 of all addresses of the host, with body,
// one line without quotes, as its answer. It returns when connections are
// accepted. It may be started again after its process was stopped or killed.
func StartNginx(ctx context.Context, h *Host, body string) (*Process, error) {
	if err := h.WriteFile("/run/nginx/nginx.conf", fmt.Sprintf(nginxConfig, body)); err != nil {
		return nil, err
	}
	p, err := h.Start("nginx", "-e", "stderr", "-c", "/run/nginx/nginx.conf")
	if err != nil {
		return nil, err
	}
	if err := p.waitListening(ctx, h, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 80)); err != nil {
		return nil, fmt.Errorf("start nginx on %s: %w", h.name, err)
	}
	return p, nil
}

// waitListening waits until a connection to address is accepted inside the
// host; it fails at once when the process has ended.
func (p *Process) waitListening(ctx context.Context, h *Host, address netip.AddrPort) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	return WaitUntil(ctx, fmt.Sprintf("%s accepts connections", address), func() error {
		if !p.Running() {
			cancel(fmt.Errorf("%w; its log ends:\n%s", errEnded, tail(p.Log(), 20)))
		}
		conn, err := h.Dial(ctx, address.String())
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// Dial connects to a TCP address, given in numbers, from inside the host.
func (h *Host) Dial(ctx context.Context, address string) (conn net.Conn, err error) {
	err = h.Do(func() (err error) {
		var dialer net.Dialer
		conn, err = dialer.DialContext(ctx, "tcp4", address)
		return err
	})
	return conn, err
}
