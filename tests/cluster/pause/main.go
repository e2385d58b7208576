// The container that holds a pod's network for as long as the pod lives: it waits to be told to end.
// Kubernetes' own image for this would have to come from a registry; the tests use none.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
}
