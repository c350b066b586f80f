package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	moby "github.com/moby/ipvs"

	"github.com/zklvs/zklvs/internal/lab"
	"github.com/zklvs/zklvs/ipvs"
)

func newTableTools(h *lab.Host) []tableTool {
	return []tableTool{&zklvsTool{host: h}, &bareTool{host: h}, &ipvsadmTool{host: h}, &mobyTool{host: h}, &keepalivedTool{host: h}}
}

// zklvsTool does what the director does: it keeps the record of what is ours.
type zklvsTool struct {
	host  *lab.Host
	dir   string
	table *ipvs.Table
	rec   *ipvs.Reconciler
}

func (t *zklvsTool) name() string { return Zklvs }

func (t *zklvsTool) open() (err error) {
	if t.dir, err = os.MkdirTemp("", "zklvs-bench-table-"); err != nil {
		return err
	}
	scope, err := ipvs.HostScope()
	if err != nil {
		return err
	}
	owned, err := ipvs.OpenOwned(filepath.Join(t.dir, "services"), scope)
	if err != nil {
		return err
	}
	if t.table, err = ipvs.Open(); err != nil {
		return err
	}
	t.rec, err = ipvs.NewReconciler(t.table, owned)
	return err
}

func (t *zklvsTool) install(ctx context.Context, services []ipvs.Service) error {
	return t.host.Do(func() error {
		if err := t.open(); err != nil {
			return err
		}
		return t.reconcile(ctx, services)
	})
}

func (t *zklvsTool) reconcile(ctx context.Context, services []ipvs.Service) error {
	_, err := t.rec.Reconcile(ctx, services)
	return err
}

func (t *zklvsTool) read(context.Context) error {
	return t.host.Do(func() error {
		_, err := t.table.Services()
		return err
	})
}

func (t *zklvsTool) change(ctx context.Context, services []ipvs.Service, i int) error {
	return t.host.Do(func() error { return t.reconcile(ctx, reweighted(services, i)) })
}

func (t *zklvsTool) remove(ctx context.Context, _ []ipvs.Service) error {
	err := t.host.Do(func() error { return t.reconcile(ctx, nil) })
	t.table.Close()
	return errors.Join(err, os.RemoveAll(t.dir))
}

// bareTool applies plans and looks at nothing.
type bareTool struct {
	host  *lab.Host
	table *ipvs.Table
}

func (t *bareTool) name() string { return Bare }

func (t *bareTool) apply(ctx context.Context, desired, actual []ipvs.Service) error {
	_, err := t.table.Apply(ctx, ipvs.Diff(desired, actual, func(ipvs.Key) bool { return true }))
	return err
}

func (t *bareTool) install(ctx context.Context, services []ipvs.Service) error {
	return t.host.Do(func() (err error) {
		if t.table, err = ipvs.Open(); err != nil {
			return err
		}
		return t.apply(ctx, services, nil)
	})
}

func (t *bareTool) read(context.Context) error { return errCannot } // it is zklvs's

func (t *bareTool) change(ctx context.Context, services []ipvs.Service, i int) error {
	return t.host.Do(func() error {
		return t.apply(ctx, reweighted(services, i)[i:i+1], services[i:i+1])
	})
}

func (t *bareTool) remove(ctx context.Context, services []ipvs.Service) error {
	defer t.table.Close()
	return t.host.Do(func() error { return t.apply(ctx, nil, services) })
}

// ipvsadmTool runs the program.
type ipvsadmTool struct{ host *lab.Host }

func (t *ipvsadmTool) name() string { return Ipvsadm }

func (t *ipvsadmTool) feed(ctx context.Context, text string) error {
	cmd := t.host.Command(ctx, "ipvsadm", "-R")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	if err == nil && len(out) > 0 { // it goes on after a line that failed
		err = errors.New("lines failed")
	}
	if err != nil {
		return fmt.Errorf("ipvsadm -R: %w: %.300q", err, out)
	}
	return nil
}

func (t *ipvsadmTool) install(ctx context.Context, services []ipvs.Service) error {
	return t.feed(ctx, ipvs.Diff(services, nil, nil).String())
}

func (t *ipvsadmTool) read(ctx context.Context) error {
	_, err := t.host.Run(ctx, "ipvsadm", "-S", "-n")
	return err
}

func (t *ipvsadmTool) change(ctx context.Context, services []ipvs.Service, i int) error {
	plan := ipvs.Diff(reweighted(services, i)[i:i+1], services[i:i+1], nil)
	_, err := t.host.Run(ctx, append([]string{"ipvsadm"}, strings.Fields(plan.String())...)...)
	return err
}

func (t *ipvsadmTool) remove(ctx context.Context, services []ipvs.Service) error {
	return t.feed(ctx, ipvs.Diff(nil, services, func(ipvs.Key) bool { return true }).String())
}

// mobyTool makes a call for each thing.
type mobyTool struct {
	host   *lab.Host
	handle *moby.Handle
}

func (t *mobyTool) name() string { return Moby }

func mobyService(s ipvs.Service) *moby.Service {
	return &moby.Service{
		AddressFamily: syscall.AF_INET, Protocol: uint16(s.Protocol), Address: s.Address.AsSlice(), Port: s.Port, SchedName: s.Scheduler, Netmask: 0xFFFFFFFF,
	}
}

func mobyDestination(d ipvs.Destination) *moby.Destination {
	return &moby.Destination{
		AddressFamily: syscall.AF_INET, Address: d.Address.AsSlice(), Port: d.Port, Weight: d.Weight, ConnectionFlags: moby.ConnFwdDirectRoute,
	}
}

func (t *mobyTool) install(_ context.Context, services []ipvs.Service) error {
	return t.host.Do(func() (err error) {
		if t.handle, err = moby.New(""); err != nil {
			return err
		}
		for _, s := range services {
			if err := t.handle.NewService(mobyService(s)); err != nil {
				return err
			}
			for _, d := range s.Destinations {
				if err := t.handle.NewDestination(mobyService(s), mobyDestination(d)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (t *mobyTool) read(context.Context) error {
	return t.host.Do(func() error {
		services, err := t.handle.GetServices()
		for _, s := range services {
			if _, err := t.handle.GetDestinations(s); err != nil {
				return err
			}
		}
		return err
	})
}

func (t *mobyTool) change(_ context.Context, services []ipvs.Service, i int) error {
	return t.host.Do(func() error {
		s := reweighted(services, i)[i]
		return t.handle.UpdateDestination(mobyService(s), mobyDestination(s.Destinations[len(s.Destinations)-1]))
	})
}

func (t *mobyTool) remove(_ context.Context, services []ipvs.Service) error {
	defer t.handle.Close()
	return t.host.Do(func() error {
		for _, s := range services {
			if err := t.handle.DelService(mobyService(s)); err != nil {
				return err
			}
		}
		return nil
	})
}

// keepalivedTool is its checkers' process, without any check. What it has done is seen
// in the kernel, by moby/ipvs.
type keepalivedTool struct {
	host   *lab.Host
	daemon *lab.Process
	handle *moby.Handle
}

func (t *keepalivedTool) name() string { return Keepalived }

const keepalivedFile = "/run/keepalived/table.conf"

func (t *keepalivedTool) configure(services []ipvs.Service) error {
	var b bytes.Buffer
	b.WriteString("global_defs {\n    router_id LVS_DEVEL\n}\n")
	for _, s := range services {
		fmt.Fprintf(&b, "virtual_server %s %d {\n    lb_algo %s\n    lb_kind DR\n    protocol TCP\n", s.Address, s.Port, s.Scheduler)
		for _, d := range s.Destinations {
			fmt.Fprintf(&b, "    real_server %s %d {\n        weight %d\n    }\n", d.Address, d.Port, d.Weight)
		}
		b.WriteString("}\n")
	}
	return t.host.WriteFile(keepalivedFile, b.String())
}

func (t *keepalivedTool) install(ctx context.Context, services []ipvs.Service) error {
	if err := t.configure(services); err != nil {
		return err
	}
	if err := t.host.Do(func() (err error) { t.handle, err = moby.New(""); return err }); err != nil {
		return err
	}
	var err error
	t.daemon, err = t.host.Start("keepalived", "--dont-fork", "--log-console", "--check", "--use-file", keepalivedFile,
		"--pid", "/run/keepalived/pid", "--checkers_pid", "/run/keepalived/checkers.pid")
	if err != nil {
		return err
	}
	return t.sees(ctx, services[len(services)-1], 1)
}

// sees waits until a service stands whose last destination has a weight.
func (t *keepalivedTool) sees(ctx context.Context, s ipvs.Service, weight int) error {
	ctx, cancel := within(ctx, 5*time.Minute)
	defer cancel()
	return lab.WaitUntil(ctx, fmt.Sprintf("keepalived has installed %v", s.Key), func() error {
		if !t.daemon.Running() {
			return errors.New("keepalived has ended")
		}
		return t.host.Do(func() error {
			ds, err := t.handle.GetDestinations(mobyService(s))
			if err != nil || len(ds) != len(s.Destinations) {
				return errors.Join(err, errNotYet)
			}
			last := s.Destinations[len(s.Destinations)-1]
			for _, d := range ds {
				if d.Address.Equal(last.Address.AsSlice()) && d.Weight == weight {
					return nil
				}
			}
			return errNotYet
		})
	})
}

func (t *keepalivedTool) read(context.Context) error { return errCannot }

func (t *keepalivedTool) change(ctx context.Context, services []ipvs.Service, i int) error {
	services = reweighted(services, i)
	if err := t.configure(services); err != nil {
		return err
	}
	if err := t.daemon.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	return t.sees(ctx, services[i], newWeight)
}

func (t *keepalivedTool) remove(ctx context.Context, _ []ipvs.Service) error {
	defer t.handle.Close()
	if err := t.daemon.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	ctx, cancel := within(ctx, 5*time.Minute)
	defer cancel()
	if _, err := t.daemon.Wait(ctx); err != nil {
		return err
	}
	return t.clean(ctx)
}

// clean removes what keepalived has left behind, which counts as not finished.
func (t *keepalivedTool) clean(ctx context.Context) error {
	var left []*moby.Service
	err := t.host.Do(func() (err error) { left, err = t.handle.GetServices(); return err })
	if err != nil || len(left) == 0 {
		return err
	}
	if _, err := t.host.Run(ctx, "ipvsadm", "-C"); err != nil {
		return err
	}
	return fmt.Errorf("%w: it has left %d services", errUnfinished, len(left))
}
