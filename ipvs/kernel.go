package ipvs

// The numbers of linux/ip_vs.h, as far as they are used.

const (
	familyName = "IPVS"
	afINET     = 2
	afINET6    = 10
)

// Commands (IPVS_CMD_*).
const (
	cmdNewService = iota + 1
	cmdSetService
	cmdDelService
	cmdGetService
	cmdNewDest
	cmdSetDest
	cmdDelDest
	cmdGetDest
	cmdNewDaemon
	cmdDelDaemon
	cmdGetDaemon
	cmdSetConfig
	cmdGetConfig
	_ // SET_INFO
	_ // GET_INFO
	cmdZero
)

// Attributes of a command (IPVS_CMD_ATTR_*).
const (
	attrService = iota + 1
	attrDest
	attrDaemon
	attrTimeoutTCP
	attrTimeoutTCPFin
	attrTimeoutUDP
)

// Attributes of a service (IPVS_SVC_ATTR_*).
const (
	svcFamily   = iota + 1
	svcProtocol // 16 bits
	svcAddr     // 4 or 16 bytes; 16 when read
	svcPort     // network order
	svcMark
	svcScheduler
	svcFlags   // struct ip_vs_flags: flags and the mask of those that count
	svcTimeout // seconds
	svcNetmask // network order for IPv4; for IPv6 a prefix's length in the host's
	_          // STATS: 32 bits
	svcEngine
	svcStats
)

// Attributes of a destination (IPVS_DEST_ATTR_*).
const (
	destAddr = iota + 1
	destPort // network order
	destForward
	destWeight
	destUpper
	destLower
	destActive
	destInact
	destPersist
	_ // STATS: 32 bits
	destFamily
	destStats
	destTunType  // 8 bits
	destTunPort  // 16 bits, network order
	destTunFlags // 16 bits
)

// Attributes of a sync daemon (IPVS_DAEMON_ATTR_*).
const (
	daemonState = iota + 1
	daemonInterface
	daemonID
	daemonMaxLen // 16 bits
	daemonGroup
	daemonGroup6
	daemonPort // 16 bits in the host's order
	daemonTTL  // 8 bits
)

// Attributes of counters (IPVS_STATS_ATTR_*), 64 bits each.
const (
	statsConns = iota + 1
	statsInPkts
	statsOutPkts
	statsInBytes
	statsOutBytes
	statsCPS
	statsInPPS
	statsOutPPS
	statsInBPS
	statsOutBPS
)

// Flags of a service (IP_VS_SVC_F_*). HASHED is the kernel's own mark of a
// service in the table.
const (
	flagPersistent = 0x0001
	flagHashed     = 0x0002
	flagOnePacket  = 0x0004
	flagSched      = 3 // bits 3, 4 and 5 are those of SchedulerFlags
	allSched       = 7
)

// Forwarding methods (IP_VS_CONN_F_*).
const (
	fwdMask  = 0x7
	fwdMasq  = 0
	fwdLocal = 1
	fwdTun   = 2
	fwdRoute = 3
)
