package promise

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
)

const (
	// KeySize is the length of the cluster's key in bytes: as long as the hash,
	// RFC 2104 section 3.
	KeySize = sha256.Size
	macSize = sha256.Size
)

// sealer makes and checks the HMAC of datagrams of one cluster.
type sealer struct{ key []byte }

// newSealer derives the cluster's own key, so that two clusters that were given
// one key do not understand each other.
func newSealer(key []byte, cluster string) *sealer {
	h := hmac.New(sha256.New, key)
	h.Write([]byte("zklvs promise\x00" + cluster))
	return &sealer{key: h.Sum(nil)}
}

// seal appends the HMAC of b to b.
func (s *sealer) seal(b []byte) []byte {
	h := hmac.New(sha256.New, s.key)
	h.Write(b)
	return h.Sum(b)
}

// open returns a datagram without its HMAC, nil if that is wrong. It takes the
// same time whatever is wrong with it.
func (s *sealer) open(datagram []byte) []byte {
	if len(datagram) < macSize {
		return nil
	}
	body, mac := datagram[:len(datagram)-macSize], datagram[len(datagram)-macSize:]
	h := hmac.New(sha256.New, s.key)
	h.Write(body)
	if !hmac.Equal(h.Sum(nil), mac) {
		return nil
	}
	return body
}

// newLife returns a random id that is not all zeros.
func newLife() life {
	var l life
	for l == (life{}) {
		_, _ = rand.Read(l[:]) // never fails: see crypto/rand
	}
	return l
}
