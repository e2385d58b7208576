// The app that runs in the pods of the cluster tests: a page that says which instance answers.
//
// All it does is told by its environment, so that a test's template shows what happens:
//
//	PORT              where it listens (8080)
//	INSTANCE          what every GET is answered with
//	START_DELAY_SECS  it waits so long before it listens, or exits
//	EXIT_CODE         it exits with this code instead of serving
//	EXIT_MESSAGE      its last line on stderr before that
//	FAILURES          it does that only for its first so many starts, and then serves
//	FAILURES_FILE     where it counts them, a byte each
//	EAT_MIB           it takes that much memory before it serves, and keeps it
//	IGNORE_TERM=1     it goes on serving after SIGTERM, until it is killed
//	TERM_EXIT_CODE    it exits with this code after SIGTERM (0)
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

const mebibyte = 1 << 20

func main() {
	terminated := make(chan os.Signal, 1)
	signal.Notify(terminated, syscall.SIGTERM)
	if os.Getenv("IGNORE_TERM") != "1" {
		go func() {
			<-terminated
			os.Exit(number("TERM_EXIT_CODE", 0))
		}()
	}

	time.Sleep(time.Duration(number("START_DELAY_SECS", 0)) * time.Second)
	if os.Getenv("EXIT_CODE") != "" && fails() {
		fmt.Fprintln(os.Stderr, os.Getenv("EXIT_MESSAGE"))
		os.Exit(number("EXIT_CODE", 0))
	}
	eaten := eat(number("EAT_MIB", 0))

	instance := os.Getenv("INSTANCE")
	address := fmt.Sprintf(":%d", number("PORT", 8080))
	fmt.Printf("%q listens on %s with %d MiB eaten\n", instance, address, len(eaten)/mebibyte)
	err := http.ListenAndServe(address, http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, instance) }))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// fails says whether this start fails, and counts it.
func fails() bool {
	most := number("FAILURES", -1)
	if most < 0 {
		return true
	}
	file := os.Getenv("FAILURES_FILE")
	counted, _ := os.ReadFile(file)
	if len(counted) >= most {
		return false
	}
	if err := os.WriteFile(file, append(counted, '.'), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	return true
}

// eat takes memory and writes to each page of it: untouched pages would count against no limit.
func eat(mib int) []byte {
	eaten := make([]byte, mib*mebibyte)
	for i := 0; i < len(eaten); i += os.Getpagesize() {
		eaten[i] = 1
	}
	return eaten
}

// number reads a whole number from the environment; one that is none ends the program with exit code 2.
func number(name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 {
		fmt.Fprintf(os.Stderr, "%s: %q is not a whole number\n", name, text)
		os.Exit(2)
	}
	return value
}
