package ipvshost

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// links asks the kernel for one interface (netdevice(7)), not for all: a host may
// have thousands, and it is asked at each pass.
func links(name string) (Link, error) {
	l, err := link(name)
	if err != nil {
		return Link{}, fmt.Errorf("interface %s: %w", name, err)
	}
	return l, nil
}

func link(name string) (Link, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return Link{}, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Link{}, err
	}
	defer unix.Close(fd)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, request); err != nil {
		return Link{}, err
	}
	index := int(request.Uint32())
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, request); err != nil {
		return Link{}, err
	}
	return Link{Index: index, Up: request.Uint16()&unix.IFF_UP != 0}, nil
}
