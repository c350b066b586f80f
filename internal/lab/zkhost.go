package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
)

// StartZooKeeper starts one server on each of the hosts, at the address of
// their card in Mgmt and the usual port 2181. It returns when every server
// serves. The ensemble ends with the lab, or before by its Close.
func (l *Lab) StartZooKeeper(ctx context.Context, options ZooKeeperOptions, hosts ...*Host) (*Ensemble, error) {
	e := &Ensemble{
		options: options.withDefaults(),
		thread:  func(i int) *thread { return hosts[i].thread },
		dial: func(ctx context.Context, i int, address string) (net.Conn, error) {
			return hosts[i].Dial(ctx, address)
		},
		close: func() {},
	}
	for i, h := range hosts {
		address, err := h.mgmtAddress()
		if err != nil {
			return nil, fmt.Errorf("start ZooKeeper on %s: %w", h.name, err)
		}
		e.servers = append(e.servers, &zkServer{
			id: i + 1, dir: filepath.Join(l.dir, "zookeeper-"+h.name), address: address,
			client: 2181, secure: 2281, quorumPort: 2888, electionPt: 3888,
		})
	}
	if err := e.startAll(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

func (h *Host) mgmtAddress() (string, error) {
	for _, nic := range h.nics {
		if nic.LAN == Mgmt {
			return nic.Address.Addr().String(), nil
		}
	}
	return "", errors.New("it has no network card in LAN " + Mgmt)
}

const zkCli = "/usr/share/zookeeper/bin/zkCli.sh"

// ZkCli runs one command of Debian's zkCli on a host, as in
// ZkCli(ctx, host, server, "get", "/zklvs"), and returns what it printed,
// without the client's own messages. A refused command is an error.
func ZkCli(ctx context.Context, h *Host, server string, command ...string) (string, error) {
	cmd := h.Command(ctx, append([]string{zkCli, "-server", server}, command...)...)
	cmd.Env = append(cmd.Environ(), "JVMFLAGS="+strings.Join(jvmFlags, " "), "ZOO_LOG_DIR=/run")
	output, err := cmd.CombinedOutput()
	printed := withoutNoise(string(output))
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return printed, fmt.Errorf("zkCli %s: %w: %s", strings.Join(command, " "), err, printed)
	}
	if err != nil {
		return printed, fmt.Errorf("zkCli %s: %w", strings.Join(command, " "), err)
	}
	return printed, nil
}

// withoutNoise drops the lines that zkCli and its logger add to any command.
func withoutNoise(output string) string {
	var kept strings.Builder
	for line := range strings.Lines(output) {
		text := strings.TrimSpace(line)
		noise := text == "" || text == "WATCHER::"
		for _, start := range []string{"Connecting to ", "WatchedEvent state:", "SLF4J:", "log4j:", "JLine support"} {
			noise = noise || strings.HasPrefix(text, start)
		}
		if !noise {
			kept.WriteString(line)
		}
	}
	return kept.String()
}
