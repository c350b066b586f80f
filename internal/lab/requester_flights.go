package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/zklvs/zklvs/internal/boottime"
)

// largestAnswer bounds what is read of one answer.
const largestAnswer = 64 << 10

// flights are requests under way on one thread: non-blocking sockets on one
// epoll(7), about eight system calls a request. In user-mode Linux, where a call
// costs 75 us, net/http would be the load that it is to measure.
type flights struct {
	target  unix.Sockaddr
	family  int
	request []byte
	epoll   int
	events  []unix.EpollEvent
	buffer  []byte
	byFD    map[int]*flight
}

// flight is one request.
type flight struct {
	Outcome
	fd   int
	data []byte // of the answer so far
}

func newFlights(target netip.AddrPort) (*flights, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("create an epoll: %w", err)
	}
	f := &flights{
		family: unix.AF_INET,
		epoll:  epoll, events: make([]unix.EpollEvent, 64), buffer: make([]byte, 4096), byFD: map[int]*flight{},
		request: []byte("GET / HTTP/1.1\r\nHost: " + target.String() + "\r\nConnection: close\r\n\r\n"),
	}
	if a := target.Addr(); a.Is4() {
		f.target = &unix.SockaddrInet4{Addr: a.As4(), Port: int(target.Port())}
	} else {
		f.family, f.target = unix.AF_INET6, &unix.SockaddrInet6{Addr: a.As16(), Port: int(target.Port())}
	}
	return f, nil
}

func (f *flights) close() {
	for fd := range f.byFD {
		unix.Close(fd)
	}
	unix.Close(f.epoll)
}

// begin starts to connect.
func (f *flights) begin(number int, at time.Duration) error {
	fd, err := unix.Socket(f.family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	// Edge-triggered, so that one call watches for the connection and the answer.
	event := &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd)}
	if err := unix.Connect(fd, f.target); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return fmt.Errorf("connect: %w", err)
	}
	if err := unix.EpollCtl(f.epoll, unix.EPOLL_CTL_ADD, fd, event); err != nil {
		unix.Close(fd)
		return fmt.Errorf("watch a socket: %w", err)
	}
	f.byFD[fd] = &flight{fd: fd, Outcome: Outcome{Number: number, Begun: at}}
	return nil
}

// wait handles what happens within a time, and returns the requests that ended.
func (f *flights) wait(d time.Duration) ([]Outcome, error) {
	n, err := unix.EpollWait(f.epoll, f.events, int((d+time.Millisecond-1)/time.Millisecond))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return nil, fmt.Errorf("wait for sockets: %w", err)
	}
	var ended []Outcome
	for _, event := range f.events[:max(n, 0)] {
		flight := f.byFD[int(event.Fd)]
		if flight == nil {
			continue
		}
		if done, err := f.advance(flight, event.Events); done || err != nil {
			ended = append(ended, f.end(flight, err))
		}
	}
	return ended, nil
}

// advance does what a request's socket is ready for; done says that its answer is
// whole.
func (f *flights) advance(flight *flight, ready uint32) (done bool, err error) {
	if flight.Connected == 0 {
		if ready&(unix.EPOLLOUT|unix.EPOLLERR) == 0 {
			return false, nil
		}
		// A connection that failed says so here.
		if _, err := unix.Write(flight.fd, f.request); err != nil {
			return false, fmt.Errorf("connect: %w", err)
		}
		flight.Connected = boottime.Now()
	}
	if ready&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLERR|unix.EPOLLHUP) == 0 {
		return false, nil
	}
	for {
		n, err := unix.Read(flight.fd, f.buffer)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return false, nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return false, fmt.Errorf("read the answer: %w", err)
		case n == 0:
			return false, errors.New("the connection ended before the answer")
		}
		flight.data = append(flight.data, f.buffer[:n]...)
		if server, whole, err := readAnswer(flight.data); whole {
			flight.Server = server
			return true, err
		}
		if len(flight.data) > largestAnswer {
			return false, fmt.Errorf("the answer is longer than %d bytes", largestAnswer)
		}
	}
}

func (f *flights) end(flight *flight, err error) Outcome {
	flight.Ended, flight.Err = boottime.Now(), err
	delete(f.byFD, flight.fd)
	unix.Close(flight.fd)
	return flight.Outcome
}

// expire ends the requests that began before a time.
func (f *flights) expire(before time.Duration) []Outcome {
	var ended []Outcome
	for _, flight := range f.byFD {
		if flight.Begun < before {
			ended = append(ended, f.end(flight, ErrNoAnswer))
		}
	}
	return ended
}
