package zk

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zklvs/zklvs/internal/lab"
)

func TestWrongCredentials(t *testing.T) {
	e := sharedEnsemble(t)
	ctx := context.Background()
	for _, c := range []struct {
		name          string
		worldRead     bool
		user, passwd  string
		reads, access string // parts of the errors
	}{
		{"right", false, "web", "secret", "", ""},
		{"wrong password", false, "web", "guess", "credentials refused", `user "web" or its password`},
		{"wrong password, world may read", true, "web", "guess", "", "check zookeeper.credentials"},
		{"none", false, "", "", "credentials refused", "set zookeeper.credentials"},
		{"none, world may read", true, "", "", "", "set zookeeper.credentials"},
	} {
		t.Run(c.name, func(t *testing.T) {
			owner := run(t, Config{Servers: e.Servers(), User: "web", Password: "secret", WorldRead: c.worldRead})
			connected(t, owner)
			path := scratch(t, owner)
			s := run(t, Config{Servers: e.Servers(), User: c.user, Password: c.passwd})
			connected(t, s)
			if err := s.Sync(ctx, path); err != nil {
				t.Fatal(err)
			}
			_, _, err := s.Get(ctx, path)
			if c.reads != "" && !errors.Is(err, ErrAuth) {
				t.Errorf("expected that %v is ErrAuth", err)
			}
			expect(t, "get", err, c.reads)
			expect(t, "access", s.CheckAccess(ctx, path), c.access)
			expect(t, "access to nothing", s.CheckAccess(ctx, path+"-none"), "")
			if _, stat, err := owner.Get(ctx, path); err != nil || stat.Version != 0 {
				t.Errorf("the check changed the znode: %+v %v", stat, err)
			}
		})
	}
}

// expect compares an error's text with a part of it, "" meaning no error.
func expect(t testing.TB, what string, err error, part string) {
	t.Helper()
	switch {
	case err == nil && part != "":
		t.Errorf("%s: no error, expected %q", what, part)
	case err != nil && (part == "" || !strings.Contains(err.Error(), part)):
		t.Errorf("%s: %v, expected %q", what, err, part)
	}
}

// The credentials are repeated on each connection, before anything else.
func TestCredentialsAfterReconnect(t *testing.T) {
	e := sharedEnsemble(t)
	links, addresses := proxies(t, e.Servers())
	s := run(t, Config{Servers: addresses, User: "web", Password: "secret"})
	st := connected(t, s)
	path := scratch(t, s)
	each(links, (*proxy).cut)
	eventually(t, 3*time.Second, "another connection", func() bool {
		now := s.State()
		return now.Connected && now.Connection > st.Connection
	})
	if _, _, err := s.Get(context.Background(), path); err != nil {
		t.Error(err)
	}
}

func TestTLSWithClientCertificate(t *testing.T) {
	needZooKeeper(t)
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	serverCert, serverKey := ca.issue(t, dir, "server")
	clientCert, clientKey := ca.issue(t, dir, "client")
	stranger := newAuthority(t, dir, "stranger")
	e := must(lab.StartLocalZooKeeper(within(t, time.Minute), filepath.Join(dir, "zk"), 1, lab.ZooKeeperOptions{
		TLS: &lab.ZooKeeperTLS{CA: ca.file, Cert: serverCert, Key: serverKey, RequireClientCert: true},
	}))(t)
	defer e.Close()

	good := must(LoadTLS(TLSFiles{CA: ca.file, Cert: clientCert, Key: clientKey}))(t)
	s := run(t, Config{Servers: e.SecureServers(), TLS: good})
	connected(t, s)
	scratch(t, s)

	for name, files := range map[string]TLSFiles{
		"no client certificate":   {CA: ca.file},
		"server of another CA":    {CA: stranger.file, Cert: clientCert, Key: clientKey},
		"another name of servers": {CA: ca.file, Cert: clientCert, Key: clientKey, ServerName: "zk.example"},
	} {
		s := run(t, Config{Servers: e.SecureServers(), TLS: must(LoadTLS(files))(t)})
		st, err := s.WaitConnected(within(t, 700*time.Millisecond))
		if err == nil {
			t.Errorf("%s: connected: %+v", name, st)
		}
		t.Logf("%s: %v", name, err)
	}
}

func TestLoadTLSNamesTheFile(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	cert, key := ca.issue(t, dir, "client")
	_, otherKey := ca.issue(t, dir, "other")
	empty := filepath.Join(dir, "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		files TLSFiles
		err   string
	}{
		{"all", TLSFiles{CA: ca.file, Cert: cert, Key: key, ServerName: "x"}, ""},
		{"system's CAs, no client certificate", TLSFiles{}, ""},
		{"no such CA", TLSFiles{CA: dir + "/none"}, "none: no such file"},
		{"empty CA", TLSFiles{CA: empty}, "empty.pem: no certificate in it"},
		{"no key", TLSFiles{Cert: cert}, "set cert and key or neither"},
		{"no certificate", TLSFiles{Key: key}, "set cert and key or neither"},
		{"another's key", TLSFiles{Cert: cert, Key: otherKey}, "client.pem with key " + otherKey},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := LoadTLS(c.files)
			expect(t, "load", err, c.err)
		})
	}
}

// authority is a certificate authority of the test.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, dir, name string) *authority {
	t.Helper()
	a := &authority{file: filepath.Join(dir, name+".pem"), key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)}
	template := certificate(name)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der := must(x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key))(t)
	a.cert = must(x509.ParseCertificate(der))(t)
	writePEM(t, a.file, "CERTIFICATE", der)
	return a
}

// issue writes a certificate for 127.0.0.1 and its key.
func (a *authority) issue(t testing.TB, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := certificate(name)
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	der := must(x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key))(t)
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+"-key.pem")
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))(t))
	return certFile, keyFile
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
}

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
