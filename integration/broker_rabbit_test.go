package integration

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tenure-dev/tenure/adapters/bus/broker"
)

// rabbitServer is where Debian's package has the server without the wrapper that changes the user.
const rabbitServer = "/usr/lib/rabbitmq/bin/rabbitmq-server"

// startRabbit runs RabbitMQ, with a port mapper of its own, until the test ends, and gives its URL.
func startRabbit(t *testing.T) string {
	t.Helper()
	if _, err := os.Stat(rabbitServer); err != nil {
		t.Skip("rabbitmq-server is not installed: make setup")
	}
	dir, port, mapper, nodes := t.TempDir(), freePort(t), freePort(t), freePort(t)
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("rabbitmq.conf", "max_message_size = 65536\n")
	write("plugins", "[].\n")
	env := append(os.Environ(), "HOME="+dir, fmt.Sprintf("ERL_EPMD_PORT=%d", mapper), "ERL_EPMD_ADDRESS=127.0.0.1",
		fmt.Sprintf("RABBITMQ_NODENAME=tenure-%d@localhost", port), fmt.Sprintf("RABBITMQ_NODE_PORT=%d", port),
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", fmt.Sprintf("RABBITMQ_DIST_PORT=%d", nodes), "RABBITMQ_MNESIA_BASE="+dir,
		"RABBITMQ_LOG_BASE="+dir, "RABBITMQ_LOGS=-", "RABBITMQ_CONFIG_FILE="+dir+"/rabbitmq.conf", "RABBITMQ_CONF_ENV_FILE="+dir+"/none",
		"RABBITMQ_ENABLED_PLUGINS_FILE="+dir+"/plugins", "RABBITMQ_PID_FILE="+dir+"/pid", "RABBITMQ_ALLOW_INPUT=1")
	start := func(name string, arguments ...string) *exec.Cmd {
		cmd := exec.Command(name, arguments...)
		cmd.Env, cmd.Dir = env, dir
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	run := func(cmd *exec.Cmd) {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			_ = cmd.Wait()
		})
	}
	run(start("epmd", "-port", fmt.Sprint(mapper), "-address", "127.0.0.1"))
	server := start(rabbitServer)
	stdin, err := server.StdinPipe() // a shell without an end of its input
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close() })
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	run(server)
	ready := make(chan bool, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if strings.Contains(lines.Text(), "startup complete") {
				ready <- true
			}
		}
		close(ready)
	}()
	select {
	case up := <-ready:
		if !up {
			t.Fatal("rabbitmq-server has ended")
		}
	case <-time.After(patience):
		t.Fatal("rabbitmq-server is not ready")
	}
	return fmt.Sprintf("amqp://guest:guest@127.0.0.1:%d/", port)
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestRabbitMQStoresWhatIsPublishedInOrder(t *testing.T) {
	sink := broker.NewAMQPSink()
	sink.URL, sink.Exchange, sink.RoutingKey = broker.Text(startRabbit(t)), "tenure", "{type}"
	source := broker.NewAMQPSource()
	source.URL, source.Exchange, source.Queue, source.Redelivery = sink.URL, "tenure", "suite", time.Millisecond
	brokerSuite(t, sink, source)
}
