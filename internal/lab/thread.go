package lab

import (
	"errors"
	"os/exec"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// onOwnThread runs f on a thread that nothing else ever runs on, and that ends
// with f: f may change the thread's namespaces. It is never the main thread,
// whose namespaces are what /proc/self shows and which cannot end.
func onOwnThread(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked where f runs: the thread ends
		if unix.Gettid() != unix.Getpid() {
			f()
			return
		}
		taken := make(chan struct{})
		onOwnThread(func() {
			close(taken)
			f()
		})
		<-taken // the main thread is occupied until then
		runtime.UnlockOSThread()
	}()
}

// thread is one that does jobs in turn until it is closed.
//
// The processes it starts are killed by the kernel when it ends, be it by close
// or because this process is killed: that signal is tied to the thread that
// forked (prctl(2), PR_SET_PDEATHSIG).
type thread struct {
	jobs chan func()
	quit chan struct{}
	once sync.Once
}

func newThread() *thread {
	t := &thread{jobs: make(chan func()), quit: make(chan struct{})}
	onOwnThread(t.loop)
	return t
}

func (t *thread) loop() {
	for {
		select {
		case job := <-t.jobs:
			job()
		case <-t.quit:
			return
		}
	}
}

var errClosed = errors.New("the lab is closed")

// do runs f on the thread and returns its error.
func (t *thread) do(f func() error) error {
	result := make(chan error, 1)
	select {
	case t.jobs <- func() { result <- f() }:
		return <-result
	case <-t.quit:
		return errClosed
	}
}

// start starts cmd, in a process group of its own: a Ctrl-C on the terminal
// reaches the lab's owner, who closes the lab in order.
func (t *thread) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true
	return t.do(cmd.Start)
}

// close ends the thread, and with it the processes that it started.
func (t *thread) close() { t.once.Do(func() { close(t.quit) }) }
