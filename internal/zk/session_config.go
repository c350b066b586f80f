package zk

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	gozk "github.com/go-zookeeper/zk"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/boottime"
)

const (
	// DefaultSessionTimeout is asked for where Config names none. The servers
	// clamp it to 2..20 of their ticks; State.Timeout holds what was granted.
	DefaultSessionTimeout = 6 * time.Second

	minSessionTimeout = time.Second
	maxSessionTimeout = 10 * time.Minute
	minReplyTimeout   = 500 * time.Millisecond
	maxReplyTimeout   = time.Second
)

// Config says where the ensemble is and how to talk to it.
type Config struct {
	Servers        []string      // host, host:port or [IPv6]:port; port 2181 where none is named
	SessionTimeout time.Duration // asked for; zero means DefaultSessionTimeout
	ReplyTimeout   time.Duration // an unanswered call ends the connection; zero means granted timeout / 6, within 500 ms..1 s
	TLS            *tls.Config   // nil means plain TCP; see LoadTLS
	User, Password string        // digest credentials; both or neither
	WorldRead      bool          // with credentials: anyone may read
	Logger         *zap.Logger   // nil means silence
	Now            func() time.Duration
}

// Validate reports every wrong field in one error, each with its remedy.
func (c Config) Validate() error {
	var errs []error
	if len(c.Servers) == 0 {
		errs = append(errs, errors.New("zookeeper: no servers: list at least one host:port"))
	}
	for _, s := range c.Servers {
		if _, err := serverAddress(s); err != nil {
			errs = append(errs, err)
		}
	}
	if t := c.SessionTimeout; t != 0 && (t < minSessionTimeout || t > maxSessionTimeout) {
		errs = append(errs, fmt.Errorf("zookeeper: session timeout %s: expected %s to %s", t, minSessionTimeout, maxSessionTimeout))
	}
	if c.ReplyTimeout < 0 {
		errs = append(errs, fmt.Errorf("zookeeper: reply timeout %s: expected a positive duration or zero for the default", c.ReplyTimeout))
	}
	return errors.Join(append(errs, c.validateCredentials())...)
}

func (c Config) validateCredentials() error {
	switch {
	case (c.User == "") != (c.Password == ""):
		return errors.New("zookeeper: credentials: a user needs a password and a password a user: set both or neither")
	case strings.ContainsAny(c.User, ": \t\r\n"):
		return fmt.Errorf("zookeeper: credentials: user %q: expected no colon and no blank", c.User)
	}
	return nil
}

// withDefaults is Config with every zero value replaced and the servers in
// the form host:port.
func (c Config) withDefaults() Config {
	servers := make([]string, 0, len(c.Servers))
	for _, s := range c.Servers {
		a, err := serverAddress(s)
		if err == nil {
			servers = append(servers, a)
		}
	}
	c.Servers = servers
	if c.SessionTimeout == 0 {
		c.SessionTimeout = DefaultSessionTimeout
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Now == nil {
		c.Now = boottime.Now
	}
	return c
}

// replyTimeout is how long a call may go unanswered in a session that was
// granted timeout.
func (c Config) replyTimeout(granted time.Duration) time.Duration {
	if c.ReplyTimeout > 0 {
		return c.ReplyTimeout
	}
	return min(max(granted/6, minReplyTimeout), maxReplyTimeout)
}

// serverAddress brings one entry of Servers into the form host:port.
func serverAddress(s string) (string, error) {
	wrong := func(why string) (string, error) {
		return "", fmt.Errorf("zookeeper: server %q: %s: expected host:port, for example 10.0.0.1:2181 or [2001:db8::1]:2181", s, why)
	}
	host, port := s, strconv.Itoa(gozk.DefaultPort)
	if strings.Contains(s, ":") {
		var err error
		if host, port, err = net.SplitHostPort(s); err != nil {
			return wrong("not host:port")
		}
	}
	if host == "" || strings.ContainsAny(host, "/, \t\r\n@[]") {
		return wrong("bad host name")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return wrong("port " + strconv.Quote(port) + " is not 1 to 65535")
	}
	return net.JoinHostPort(host, port), nil
}
