package ipvs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/zklvs/zklvs/ipvs/genl"
)

// Errors to decide on with errors.Is.
var (
	// ErrNoKernelSupport: there is no ip_vs in this kernel.
	ErrNoKernelSupport = errors.New("kernel has no ip_vs: modprobe ip_vs, or boot a kernel built with CONFIG_IP_VS")
	// ErrNoScheduler: the kernel has no such scheduler.
	ErrNoScheduler = errors.New("kernel has no such scheduler")
	// ErrRaced: the table changed between read and write, because another
	// program writes to it. Reading again and planning anew helps.
	ErrRaced = errors.New("another program changed the IPVS table meanwhile")
	// ErrPermission: the process may not change the table.
	ErrPermission = errors.New("changing the IPVS table needs CAP_NET_ADMIN: run as root")
	// ErrClosed: the Table was closed.
	ErrClosed = errors.New("IPVS table is closed")
)

// StepError is a step that the kernel refused.
type StepError struct {
	Step Step
	// Err is why, in words; it wraps the kernel's errno and, where one fits,
	// a sentinel error of this package.
	Err error
}

func (e *StepError) Error() string { return e.Step.phrase() + ": " + e.Err.Error() }

// Unwrap gives the reason.
func (e *StepError) Unwrap() error { return e.Err }

// ApplyError is a plan that was not carried out in full.
type ApplyError struct {
	Failed  []*StepError
	Skipped int
	// Cause is why the rest was given up: a context that ended, or the failed
	// step after which no other could succeed. Nil if Apply went to the end.
	Cause error
}

// shownFailures bounds the length of an ApplyError's text.
const shownFailures = 3

func (e *ApplyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "apply to the IPVS table: %d steps failed, %d not tried", len(e.Failed), e.Skipped)
	for i, f := range e.Failed {
		if i == shownFailures {
			fmt.Fprintf(&b, "; and %d more", len(e.Failed)-i)
			break
		}
		b.WriteString("; " + f.Error())
	}
	if e.Cause != nil && len(e.Failed) == 0 {
		b.WriteString("; " + e.Cause.Error())
	}
	return b.String()
}

// Unwrap gives every failed step and the cause.
func (e *ApplyError) Unwrap() []error {
	errs := make([]error, 0, len(e.Failed)+1)
	for _, f := range e.Failed {
		errs = append(errs, f)
	}
	if e.Cause != nil {
		errs = append(errs, e.Cause)
	}
	return errs
}

// explain puts the kernel's errno for a step into words. The meaning depends
// on the operation (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_genl_set_cmd).
func explain(s Step, err error) error {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return err
	}
	switch errno {
	case syscall.EEXIST:
		if s.Op.onDestination() {
			return fmt.Errorf("the service has this destination already: %w (%w)", ErrRaced, errno)
		}
		return fmt.Errorf("the kernel has this service already: %w (%w)", ErrRaced, errno)
	case syscall.ESRCH:
		return fmt.Errorf("the kernel has no such service: %w (%w)", ErrRaced, errno)
	case syscall.ENOENT:
		if s.Op.onDestination() {
			return fmt.Errorf("the service has no such destination: %w (%w)", ErrRaced, errno)
		}
		if s.Service.Engine != "" {
			return fmt.Errorf("%w, or no such persistence engine: no module %s, or none for %q (%w)",
				ErrNoScheduler, SchedulerModule(s.Service.Scheduler), s.Service.Engine, errno)
		}
		return fmt.Errorf("%w: no module %s for %q (%w)", ErrNoScheduler, SchedulerModule(s.Service.Scheduler), s.Service.Scheduler, errno)
	case syscall.EINVAL:
		switch {
		case s.Op.onDestination() && s.Destination.Address.Is4() == s.Service.Is6():
			return fmt.Errorf("no destination of another family than its service can be added beside a sync daemon (%w)", errno)
		case s.Op == AddDestination:
			return fmt.Errorf("the kernel takes this for no unicast address: "+
				"is it a broadcast address here, or is lo down in this network namespace (ip link set lo up)? (%w)", errno)
		}
	case syscall.EPERM, syscall.EACCES:
		return fmt.Errorf("%w (%w)", ErrPermission, errno)
	}
	return errno
}

// alreadyGone tells whether a removal failed because there was nothing to
// remove, which is what the removal was for.
func alreadyGone(s Step, err error) bool {
	switch s.Op {
	case DeleteService:
		return errors.Is(err, syscall.ESRCH)
	case DeleteDestination:
		return errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.ENOENT)
	}
	return false
}

// fatal tells whether no later step can succeed either: no permission, no
// socket, or no answer that is an errno.
func fatal(err error) bool {
	var errno syscall.Errno
	return errors.Is(err, genl.ErrLost) || !errors.As(err, &errno) || errno == syscall.EPERM || errno == syscall.EACCES || errno == syscall.EBADF
}

// quoted is a program's output as the tail of an error, on one line.
func quoted(out []byte) string {
	out = bytes.TrimSpace(out)
	if len(out) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%s)", bytes.ReplaceAll(out, []byte("\n"), []byte("; ")))
}
