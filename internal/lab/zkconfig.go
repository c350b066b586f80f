package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ZooKeeperOptions shape an ensemble; the zero value is a fast one for tests.
type ZooKeeperOptions struct {
	Tick       time.Duration // tickTime; default 500 ms
	SyncLimit  int           // ticks that a follower may lag behind; default 4
	MinSession time.Duration // shortest session timeout granted; default 2 ticks
	MaxSession time.Duration // longest session timeout granted; default 60 s
	Heap       string        // -Xmx of each server; default 128m
	TLS        *ZooKeeperTLS // a second, encrypted client port
}

// ZooKeeperTLS names the PEM files of an ensemble's encrypted client port. All
// servers show the same certificate.
type ZooKeeperTLS struct {
	CA, Cert, Key string
	// RequireClientCert refuses clients without a certificate of CA.
	RequireClientCert bool
}

func (o ZooKeeperOptions) withDefaults() ZooKeeperOptions {
	if o.Tick == 0 {
		o.Tick = 500 * time.Millisecond
	}
	if o.SyncLimit == 0 {
		o.SyncLimit = 4
	}
	if o.MinSession == 0 {
		o.MinSession = 2 * o.Tick
	}
	if o.MaxSession == 0 {
		o.MaxSession = time.Minute
	}
	if o.Heap == "" {
		o.Heap = "128m"
	}
	return o
}

// zkServer is one server: where it listens and how it is run.
type zkServer struct {
	id                                     int // myid, from 1
	dir                                    string
	address                                string // as peers and clients reach it
	client, secure, quorumPort, electionPt int
	process                                *Process
}

// configure writes zoo.cfg, myid and, for TLS, the key store of one server.
func (s *zkServer) configure(all []*zkServer, o ZooKeeperOptions) error {
	if err := os.MkdirAll(filepath.Join(s.dir, "data"), 0o755); err != nil {
		return err
	}
	files := map[string]string{"zoo.cfg": s.zooCfg(all, o), "data/myid": strconv.Itoa(s.id)}
	if o.TLS != nil {
		// A PEM key store holds the key and the chain in one file.
		key, err := os.ReadFile(o.TLS.Key)
		if err != nil {
			return err
		}
		cert, err := os.ReadFile(o.TLS.Cert)
		if err != nil {
			return err
		}
		files["server.pem"] = string(key) + string(cert)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (s *zkServer) zooCfg(all []*zkServer, o ZooKeeperOptions) string {
	var b strings.Builder
	fmt.Fprintf(&b, "tickTime=%d\ninitLimit=%d\nsyncLimit=%d\n",
		o.Tick.Milliseconds(), 20*time.Second/o.Tick, o.SyncLimit)
	fmt.Fprintf(&b, "minSessionTimeout=%d\nmaxSessionTimeout=%d\n", o.MinSession.Milliseconds(), o.MaxSession.Milliseconds())
	fmt.Fprintf(&b, "dataDir=%s\nclientPortAddress=%s\nclientPort=%d\n", filepath.Join(s.dir, "data"), s.address, s.client)
	b.WriteString("maxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\n")
	if o.TLS != nil {
		clientAuth := "want"
		if o.TLS.RequireClientCert {
			clientAuth = "need"
		}
		fmt.Fprintf(&b, "secureClientPortAddress=%s\nsecureClientPort=%d\n", s.address, s.secure)
		b.WriteString("serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\n")
		fmt.Fprintf(&b, "ssl.keyStore.location=%s\nssl.keyStore.type=PEM\n", filepath.Join(s.dir, "server.pem"))
		fmt.Fprintf(&b, "ssl.trustStore.location=%s\nssl.trustStore.type=PEM\n", o.TLS.CA)
		fmt.Fprintf(&b, "ssl.clientAuth=%s\nssl.hostnameVerification=false\n", clientAuth)
		b.WriteString("authProvider.x509=org.apache.zookeeper.server.auth.X509AuthenticationProvider\n")
	}
	if len(all) > 1 {
		for _, peer := range all {
			fmt.Fprintf(&b, "server.%d=%s:%d:%d\n", peer.id, peer.address, peer.quorumPort, peer.electionPt)
		}
	}
	return b.String()
}

// javaPath is the class path of Debian's ZooKeeper. Its jar names most of the
// others itself; the netty ones that TLS needs and a logger are missing there.
var javaPath = strings.Join([]string{
	"/usr/share/java/zookeeper.jar",
	"/usr/share/java/netty-codec.jar",
	"/usr/share/java/netty-resolver.jar",
	"/usr/share/java/netty-transport-native-epoll.jar",
	"/usr/share/java/netty-transport-native-unix-common.jar",
	"/usr/share/java/slf4j-simple.jar",
}, ":")

// jvmFlags make a JVM start fast: one compiler tier, no threads for garbage
// collection, no files in /tmp.
var jvmFlags = []string{
	"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-XX:-UsePerfData",
	"-Djava.net.preferIPv4Stack=true",
}

// command is the JVM of one server. It does without fsync: nobody pulls the
// plug of a test's disk.
func (s *zkServer) command(o ZooKeeperOptions) []string {
	return slices.Concat([]string{"java"}, jvmFlags, []string{
		"-Xmx" + o.Heap, "-Dzookeeper.forceSync=no", "-Dzookeeper.preAllocSize=1024",
		"-Dzookeeper.jmx.log4j.disable=true", "-Dorg.slf4j.simpleLogger.showDateTime=true",
		"-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", javaPath, "org.apache.zookeeper.server.quorum.QuorumPeerMain", filepath.Join(s.dir, "zoo.cfg"),
	})
}

// requireZooKeeper says what is missing on this machine, with the remedy.
func requireZooKeeper() error {
	for _, file := range []string{"/usr/share/java/zookeeper.jar", "/usr/share/java/slf4j-simple.jar"} {
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("no ZooKeeper of Debian on this machine (%w): run make deps", err)
		}
	}
	return nil
}
