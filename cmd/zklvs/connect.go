package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/boottime"
	"github.com/zklvs/zklvs/internal/spec"
	"github.com/zklvs/zklvs/internal/zk"
)

// clusterFlags say which cluster a command talks to.
type clusterFlags struct {
	config    string
	cluster   string
	zookeeper []string
	timeout   time.Duration
}

func (f *clusterFlags) add(cmd *cobra.Command) {
	addConfig(cmd, &f.config, "this host's file; it may be missing if --cluster and --zookeeper are given")
	cmd.Flags().StringVar(&f.cluster, "cluster", "", "name of the cluster, instead of the file's")
	cmd.Flags().StringSliceVar(&f.zookeeper, "zookeeper", nil, "ZooKeeper servers host:port, instead of the file's")
	cmd.Flags().DurationVar(&f.timeout, "timeout", 10*time.Second, "how long to wait for ZooKeeper")
}

// addConfig is --config, whose default ZKLVS_CONFIG overrides.
func addConfig(cmd *cobra.Command, file *string, usage string) {
	name := spec.LocalFile
	if other := os.Getenv("ZKLVS_CONFIG"); other != "" {
		name = other
	}
	cmd.Flags().StringVarP(file, "config", "c", name, usage+" ($ZKLVS_CONFIG)")
}

// local returns the host's file with the flags laid over it.
func (f *clusterFlags) local() (spec.Local, error) {
	l := spec.DefaultLocal()
	data, err := os.ReadFile(f.config)
	switch {
	case err == nil:
		if l, err = spec.ParseLocal(f.config, data); err != nil {
			return l, err
		}
	case errors.Is(err, fs.ErrNotExist) && f.cluster != "" && len(f.zookeeper) > 0:
	default:
		return l, badInput(fmt.Errorf("%w: write it (see the README), name another with --config, or give --cluster and --zookeeper", err))
	}
	if f.cluster != "" {
		if err := spec.CheckName(f.cluster); err != nil {
			return l, badInput(fmt.Errorf("--cluster: %w", err))
		}
		if f.cluster != l.Cluster { // its socket is named after it
			l.ControlSocket = ""
		}
		l.Cluster = f.cluster
	}
	if len(f.zookeeper) > 0 {
		l.ZooKeeper.Servers = f.zookeeper
	}
	return l, nil
}

// zkConfig turns the file's section into a session's configuration.
func zkConfig(z spec.ZooKeeper, log *zap.Logger) (zk.Config, error) {
	cfg := zk.Config{Servers: z.Servers, SessionTimeout: z.SessionTimeout, WorldRead: z.WorldRead, Logger: log, Now: boottime.Now}
	if c := z.Credentials; c != nil {
		password, err := os.ReadFile(c.PasswordFile)
		if err != nil {
			return cfg, badInput(fmt.Errorf("zookeeper.credentials.password_file: %w", err))
		}
		cfg.User, cfg.Password = c.User, strings.TrimRight(string(password), "\r\n")
	}
	if t := z.TLS; t != nil {
		conf, err := loadTLS(*t)
		if err != nil {
			return cfg, badInput(err)
		}
		cfg.TLS = conf
	}
	if err := cfg.Validate(); err != nil {
		return cfg, badInput(err)
	}
	return cfg, nil
}

func loadTLS(t spec.TLS) (*tls.Config, error) {
	return zk.LoadTLS(tlsFiles(t))
}

// connection is a command's session with ZooKeeper.
type connection struct {
	local   spec.Local
	session *zk.Session
	tree    zk.Tree
	stop    func()
}

// connect opens a session, within the timeout, or says why there is none.
func (f *clusterFlags) connect(ctx context.Context) (*connection, error) {
	l, err := f.local()
	if err != nil {
		return nil, err
	}
	cfg, err := zkConfig(l.ZooKeeper, zap.NewNop())
	if err != nil {
		return nil, err
	}
	cfg.ReplyTimeout = f.timeout / 2
	tree, err := zk.NewTree(l.Cluster)
	if err != nil {
		return nil, badInput(err)
	}
	s, err := zk.New(cfg)
	if err != nil {
		return nil, badInput(err)
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(running) // returns its context's error only
	}()
	c := &connection{local: l, session: s, tree: tree, stop: func() { cancel(); <-ended }}
	wait, done := context.WithTimeout(ctx, f.timeout)
	defer done()
	if _, err := s.WaitConnected(wait); err != nil {
		c.stop()
		return nil, fmt.Errorf("%w: check zookeeper.servers and that they run (zkCli.sh -server %s)", err, l.ZooKeeper.Servers[0])
	}
	return c, nil
}

// read repeats a reading for as long as ctx allows while the connection breaks.
func (c *connection) read(ctx context.Context, do func(context.Context) error) error {
	for {
		err := do(ctx)
		if errors.Is(err, zk.ErrAuth) {
			return fmt.Errorf("%w: check zookeeper.credentials on this host", err)
		}
		if !errors.Is(err, zk.ErrDisconnected) {
			return err
		}
		if _, waited := c.session.WaitConnected(ctx); waited != nil {
			return errors.Join(err, waited)
		}
	}
}

// documents reads what is stored, within the timeout.
func (f *clusterFlags) documents(ctx context.Context, c *connection) (snap zk.Snapshot, err error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	err = c.read(ctx, func(ctx context.Context) error {
		snap, err = zk.NewStore(c.session, c.tree).ReadSpec(ctx)
		return err
	})
	return snap, err
}
