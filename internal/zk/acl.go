package zk

import gozk "github.com/go-zookeeper/zk"

// acl is what every znode created through a session with this config carries:
// with credentials all rights for their owner (and reading for anyone where
// WorldRead says so), without them all rights for anyone.
func (c Config) acl() []gozk.ACL {
	if c.User == "" {
		return gozk.WorldACL(gozk.PermAll)
	}
	acl := gozk.DigestACL(gozk.PermAll, c.User, c.Password)
	if c.WorldRead {
		acl = append(acl, gozk.WorldACL(gozk.PermRead)...)
	}
	return acl
}
