package lab

import (
	"errors"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
)

// spawner starts processes that the kernel kills when this process dies, even
// by SIGKILL. The kernel ties that signal to the thread that forked
// (prctl(2), PR_SET_PDEATHSIG), so one thread is kept for all of them.
type spawner struct {
	jobs chan func()
	quit chan struct{}
	once sync.Once
}

func newSpawner() *spawner {
	s := &spawner{jobs: make(chan func()), quit: make(chan struct{})}
	go s.loop()
	return s
}

func (s *spawner) loop() {
	runtime.LockOSThread() // never unlocked: the thread ends with the spawner
	for {
		select {
		case job := <-s.jobs:
			job()
		case <-s.quit:
			return
		}
	}
}

var errClosed = errors.New("the lab is closed")

// start starts cmd on the spawner's thread, in a process group of its own: a
// Ctrl-C on the terminal reaches the lab's owner, who closes the lab in order.
func (s *spawner) start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr.Setpgid = true
	result := make(chan error, 1)
	select {
	case s.jobs <- func() { result <- cmd.Start() }:
		return <-result
	case <-s.quit:
		return errClosed
	}
}

// close ends the thread, and with it whatever is still running.
func (s *spawner) close() { s.once.Do(func() { close(s.quit) }) }
