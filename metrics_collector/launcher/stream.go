// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"os"
	"syscall"
	"time"
	"unsafe"
)

const (
	readBytes = 256 << 10
	pipeBytes = 1 << 20
	// heldBytes: what a line without an end may grow to before its beginning goes out alone.
	heldBytes = 1 << 20

	fSetPipeSize = 1031
)

// stream is one of the program's two: what it writes goes to the real one at once, and to the
// shared file by whole lines, so that lines of the other never come in between.
type stream struct {
	pipe   *os.File
	real   *os.File
	gone   bool // nobody reads the real one any more
	shared *shared
	held   []byte
}

// newStream also returns the program's end. That one must block; ours must not, for deadlines.
func newStream(real *os.File, shared *shared) (*stream, int, error) {
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return nil, 0, err
	}
	if err := syscall.SetNonblock(ends[0], true); err != nil {
		return nil, 0, err
	}
	syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(ends[0]), fSetPipeSize, pipeBytes)
	pipe := os.NewFile(uintptr(ends[0]), "pipe")
	return &stream{pipe: pipe, real: real, shared: shared}, ends[1], nil
}

// pump returns when the pipe has ended, or has been drained after `end`.
func (s *stream) pump() {
	buffer := make([]byte, readBytes)
	for {
		count, err := s.pipe.Read(buffer)
		s.pass(buffer[:count])
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.drain(buffer)
			break
		}
		if err != nil {
			break
		}
	}
	s.shared.write(s.held)
}

// end: the program has ended. What it wrote is read; for what its orphans may still write nobody
// waits, for they end with the container.
func (s *stream) end() {
	s.pipe.SetReadDeadline(time.Unix(1, 0))
}

func (s *stream) drain(buffer []byte) {
	raw, err := s.pipe.SyscallConn()
	if err != nil {
		return
	}
	raw.Control(func(descriptor uintptr) {
		for left := waiting(descriptor); left > 0; {
			count, err := syscall.Read(int(descriptor), buffer[:least(left, len(buffer))])
			if err == syscall.EINTR {
				continue
			}
			if err != nil || count == 0 {
				return
			}
			s.pass(buffer[:count])
			left -= count
		}
	})
}

func (s *stream) pass(data []byte) {
	if len(data) == 0 {
		return
	}
	if !s.gone {
		_, err := s.real.Write(data) // waits for a slow reader, as the program itself would
		s.gone = err != nil
	}
	size := lastBreak(data) + 1
	if size == 0 && len(s.held)+len(data) < heldBytes {
		s.held = append(s.held, data...)
		return
	}
	if size == 0 {
		size = len(data)
	}
	if len(s.held) == 0 {
		s.shared.write(data[:size])
	} else {
		s.shared.write(append(s.held, data[:size]...))
	}
	s.held = append(s.held[:0], data[size:]...)
}

// lastBreak is where the last whole line ends; a carriage return ends a line of a progress bar.
func lastBreak(data []byte) int {
	newline := bytes.LastIndexByte(data, '\n')
	carriage := bytes.LastIndexByte(data[newline+1:], '\r')
	if carriage < 0 {
		return newline
	}
	return newline + 1 + carriage
}

func least(a, b int) int {
	if a < b {
		return a
	}
	return b
}

// waiting is how many bytes lie in a pipe.
func waiting(descriptor uintptr) int {
	var count int32
	_, _, failed := syscall.Syscall(
		syscall.SYS_IOCTL, descriptor, syscall.TIOCINQ, uintptr(unsafe.Pointer(&count)))
	if failed != 0 {
		return 0
	}
	return int(count)
}

// foregroundGroup fails where the descriptor is no terminal.
func foregroundGroup(descriptor uintptr) (int, error) {
	var group int32
	_, _, failed := syscall.Syscall(
		syscall.SYS_IOCTL, descriptor, syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group)))
	if failed != 0 {
		return 0, failed
	}
	return int(group), nil
}
