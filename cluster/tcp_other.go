//go:build !linux

package cluster

import (
	"net"
	"time"
)

// setUserTimeout needs TCP_USER_TIMEOUT, which is Linux's.
func setUserTimeout(*net.TCPConn, time.Duration) {}
