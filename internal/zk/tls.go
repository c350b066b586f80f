package zk

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLSFiles names the PEM files of a TLS connection to ZooKeeper.
type TLSFiles struct {
	CA         string // certificates that may sign the servers'; empty means the system's
	Cert, Key  string // this client's certificate and key; both or neither
	ServerName string // the name in the servers' certificates; empty means each server's host name
}

// LoadTLS reads the files and builds the config for Config.TLS. The error
// names the file at fault.
func LoadTLS(f TLSFiles) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.CA != "" {
		pool, err := loadCA(f.CA)
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, errors.New("zookeeper tls: a client certificate needs its key and a key its certificate: set cert and key or neither")
	}
	if f.Cert == "" {
		return c, nil
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("zookeeper tls: client certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	c.Certificates = []tls.Certificate{pair}
	return c, nil
}

func loadCA(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("zookeeper tls: ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("zookeeper tls: ca %s: no certificate in it: expected PEM with BEGIN CERTIFICATE", file)
	}
	return pool, nil
}
