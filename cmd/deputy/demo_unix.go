//go:build unix && !linux

package main

import "syscall"

// childAttributes put a node into a process group of its own, so that the Ctrl-C of a terminal reaches the
// demo alone. Only Linux ends children with a parent that was killed.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
