// client tcp|udp ADDR PORT: connects, asks, prints {peer, local, reply}.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// What the kernel answers, not what the Go runtime remembers of the dial.
func peerName(conn net.Conn) string {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return err.Error()
	}
	peer := ""
	raw.Control(func(fd uintptr) {
		switch name, err := syscall.Getpeername(int(fd)); at := name.(type) {
		case *syscall.SockaddrInet4:
			peer = (&net.TCPAddr{IP: at.Addr[:], Port: at.Port}).String()
		case *syscall.SockaddrInet6:
			peer = (&net.TCPAddr{IP: at.Addr[:], Port: at.Port}).String()
		default:
			peer = fmt.Sprint(err)
		}
	})
	return peer
}

func show(result map[string]string) {
	json.NewEncoder(os.Stdout).Encode(result)
	os.Exit(0)
}

func check(err error) {
	var errno syscall.Errno
	if errors.As(err, &errno) && errno == syscall.ECONNREFUSED {
		show(map[string]string{"error": "ECONNREFUSED"})
	} else if err != nil {
		show(map[string]string{"error": err.Error()})
	}
}

func main() {
	conn, err := net.DialTimeout(os.Args[1], net.JoinHostPort(os.Args[2], os.Args[3]), 5*time.Second)
	check(err)
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	_, err = conn.Write([]byte("go\n"))
	check(err)
	buffer := make([]byte, 512)
	got, err := conn.Read(buffer)
	check(err)
	show(map[string]string{
		"peer":   peerName(conn),
		"local":  conn.LocalAddr().String(),
		"reply":  strings.TrimSpace(string(buffer[:got])),
		"dialed": conn.RemoteAddr().String(),
	})
}
