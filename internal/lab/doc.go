// Package lab makes a small network out of namespaces on one machine, with real
// programs in it: hosts, LANs, ZooKeeper, nginx, faults, and a witness on the
// wire. Tests, the demo and `zklvs lab` are built on it.
//
//	l, err := lab.New(lab.Options{})
//	defer l.Close()
//	hosts, err := l.AddNodes("zk1", "node01", "client")
//	ensemble, err := l.StartZooKeeper(ctx, lab.ZooKeeperOptions{}, hosts[0])
//	daemon, err := hosts[1].Start("/path/to/zklvs", "run", "--config", "/run/zklvs.yaml")
//	err = daemon.WaitLog(ctx, "session established")
//	prober, err := lab.NewARPProber(hosts[2], "eth0", lab.VIP, 0)
//	go prober.Run(ctx)
//	err = hosts[1].LinkDown("eth0") // or Unplug, Cut; daemon.Freeze, daemon.Kill
//	output, err := hosts[2].Run(ctx, "curl", "http://192.168.150.100/")
//
// A host has network, mount and uts namespaces of its own, with a private /run
// and an /etc/hosts that knows all hosts. Process ids, the clock, /tmp and all
// other files are shared with this machine, and one kernel serves all: a fault
// of the kernel itself cannot be shown. The lab's directory, ZKLVS_OUT,
// GOCOVERDIR and the directory of the running program stay visible in the hosts
// where they are below /run.
//
// After Close no process, mount or namespace of the lab is left. If the process
// that made the lab is killed, the namespaces and what Start started go with
// it; what Command and Run started, or a daemon that left its parent, goes only
// with the surroundings that deploy/kernel/with-ipvs gives. Kernel tests run
// there:
//
//	func TestKernelSomething(t *testing.T) {
//		lab.Require(t) // or lab.RequireIPVS
//		...
//	}
//
// StartLocalZooKeeper needs none of this: it is ZooKeeper on 127.0.0.1, for
// tests without root.
//
// Serve, Exec, Up and Down let another process, in another kernel too, run
// commands in the hosts.
package lab
