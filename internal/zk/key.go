package zk

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/zklvs/zklvs/internal/logfield"
)

const (
	keyFormat = 1
	keyBytes  = 32
	keyPoll   = 30 * time.Second // whatever the watches said
	keyRetry  = time.Second      // after a failed reading
)

// storedKey is the data of a cluster's znode `key`: what directors authenticate
// their questions to each other with. Nothing here prints it.
type storedKey struct {
	Format int    `json:"format"`
	Key    string `json:"key"` // 64 hexadecimal digits
}

// newKey makes the data of the znode, random.
func newKey() []byte {
	var k [keyBytes]byte
	_, _ = rand.Read(k[:]) // never fails, see crypto/rand
	data, err := json.Marshal(storedKey{Format: keyFormat, Key: hex.EncodeToString(k[:])})
	if err != nil { // plain data cannot fail
		panic("zk: encode the key: " + err.Error())
	}
	return data
}

// errKey never holds what stands in the znode.
var errKey = fmt.Errorf("the key is not understood: expected one JSON object with format %d and a key of %d hexadecimal digits: delete the znode and run `zklvs apply`, which makes a new one", keyFormat, 2*keyBytes)

// decodeKey reads the data of the znode strictly.
func decodeKey(data []byte) ([]byte, error) {
	const limit = 1024
	var s storedKey
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if len(data) > limit || d.Decode(&s) != nil {
		return nil, errKey
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errKey
	}
	k, err := hex.DecodeString(s.Key)
	if err != nil || len(k) != keyBytes || s.Format != keyFormat {
		return nil, errKey
	}
	return k, nil
}

// KeyReader follows a cluster's key.
type KeyReader struct {
	s    *Session
	tree Tree
	log  *zap.Logger
	set  func(key []byte)

	mu      sync.Mutex
	problem string

	// Run's own.
	conn uint64 // the connection that carries the watch; 0: read again
	key  []byte
}

// NewKeyReader follows the key over a session once it runs, and hands it to set
// as it appears and changes; nil when there is none any more. While ZooKeeper is
// away the last one stays in force.
func NewKeyReader(s *Session, tree Tree, log *zap.Logger, set func(key []byte)) *KeyReader {
	return &KeyReader{s: s, tree: tree, log: log, set: set, problem: "the cluster's key has not been read yet"}
}

// Problem is why there is no key, "" if there is one.
func (k *KeyReader) Problem() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.problem
}

// Run follows the key until ctx ends and returns its error.
func (k *KeyReader) Run(ctx context.Context) error {
	sub := k.s.Subscribe()
	defer sub.Close()
	poll := time.NewTicker(keyPoll)
	defer poll.Stop()
	for {
		var retry <-chan time.Time
		if again := k.follow(ctx); again {
			retry = time.After(keyRetry)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
			k.conn = 0
		case <-retry:
			k.conn = 0
		case <-sub.Changes():
			if slices.Contains(sub.Fired(), k.tree.Key()) {
				k.conn = 0
			}
		}
	}
}

// follow reads the key where it may have changed; again asks to be called soon.
func (k *KeyReader) follow(ctx context.Context) (again bool) {
	st := k.s.State()
	if !st.Connected || st.Connection == k.conn {
		return false
	}
	data, _, err := k.s.getOrAwait(ctx, k.tree.Key())
	switch {
	case errors.Is(err, ErrNoNode):
		k.settle(k.log.Info, nil, "the cluster has no key: `zklvs apply` makes one")
	case errors.Is(err, ErrAuth):
		k.settle(k.log.Warn, nil, "the cluster's key may not be read here: check zookeeper.credentials on this host")
	case err != nil:
		return true
	default:
		key, err := decodeKey(data)
		if err != nil {
			k.settle(k.log.Warn, nil, err.Error())
			break
		}
		k.settle(k.log.Info, key, "")
	}
	k.conn = st.Connection
	return false
}

// settle puts a key in force, or its lack.
func (k *KeyReader) settle(log func(string, ...zap.Field), key []byte, problem string) {
	k.mu.Lock()
	was := k.problem
	k.problem = problem
	k.mu.Unlock()
	if problem != was && problem != "" {
		log("this director cannot hold without ZooKeeper, nor promise anything to those who do", zap.String(logfield.Reason, problem))
	}
	if !bytes.Equal(key, k.key) {
		k.key = key
		k.set(key)
	}
}
