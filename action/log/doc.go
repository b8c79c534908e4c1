// Package log is the action that writes a line to the log of the process.
package log
