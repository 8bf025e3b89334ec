package main

import "syscall"

// childAttributes put a node into a process group of its own, so that the Ctrl-C of a terminal reaches the
// demo alone, and have the kernel end the node should the demo be killed.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
