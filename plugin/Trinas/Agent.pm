package Trinas::Agent;

# Asks the agent of this node: HTTP with JSON over its Unix socket, one request a connection. Every
# request has a time limit that holds whatever the agent does: nothing here blocks but select. No
# alarm is used, since callers in Proxmox have their own.
#
# What comes back is tainted as far as Perl is concerned; whoever uses a value untaints it.

use strict;
use warnings;

use Errno qw(EAGAIN EINTR ENOENT ECONNREFUSED EACCES);
use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use JSON;
use Socket qw(AF_UNIX SOCK_STREAM SOL_SOCKET SO_ERROR pack_sockaddr_un);
use Time::HiRes qw(CLOCK_MONOTONIC clock_gettime);

# The agent's control.socket.
our $SOCKET = '/run/trinas/control.sock';

# The level of the agent's API that this program needs (agent/control, Level).
our $LEVEL = 3;

my $MOST_BYTES = 16 << 20; # of an answer
my $MOST_TEXT = 1000; # characters of an error
my $RETRY_SECONDS = 0.02; # while the agent's queue of connections is full

# ask sends a request about a storage's volume and returns a hash reference. answer: what the agent
# answered, decoded. Or error: why there is none, in one line, and code: the HTTP status, which is
# absent when the agent cannot have understood the request. late: the time was over.
#
# $what is the part of the request's path after the volume; limit: seconds; body: a reference to be
# encoded; query: a hash reference.
sub ask {
    my ($scfg, $method, $what, %opt) = @_;

    my $path = '/v1/volumes/' . escape($scfg->{'trinas-volume'}) . "/$what";
    my $query = $opt{query} // {};
    my @pairs = map { $_ . '=' . escape($query->{$_}) } grep { defined($query->{$_}) } sort keys %$query;
    $path .= '?' . join('&', @pairs) if @pairs;

    my $body = $opt{body} ? JSON->new->utf8->canonical->encode($opt{body}) : '';
    my @head = ("$method $path HTTP/1.0", 'Host: agent', "Trinas-Level: $LEVEL");
    push @head, "Trinas-Cluster: $scfg->{'trinas-cluster'}" if $scfg->{'trinas-cluster'};
    push @head, 'Content-Type: application/json', 'Content-Length: ' . length($body) if $body ne '';

    my $deadline = clock_gettime(CLOCK_MONOTONIC) + $opt{limit};
    my $raw = eval { exchange(join("\r\n", @head, '', $body), $deadline) };
    if (my $err = $@) {
        my $late = $err eq "late\n";
        $err = "the agent has not answered within $opt{limit} s: see journalctl -u trinas" if $late;
        return { error => one_line($err), late => $late };
    }
    return understand($raw);
}

# need is ask for those who cannot go on without an answer.
sub need {
    my ($scfg, $method, $what, %opt) = @_;

    my $got = ask($scfg, $method, $what, %opt);
    die "$got->{error}\n" if defined($got->{error});
    return $got->{answer};
}

# exchange sends the request and returns all that comes until the agent closes the connection. Dies
# with "late\n" after the deadline.
sub exchange {
    my ($request, $deadline) = @_;

    local $SIG{PIPE} = 'IGNORE';
    my $socket = open_socket($deadline);
    my $sent = 0;
    while ($sent < length($request)) {
        await($socket, 1, $deadline);
        my $count = syswrite($socket, $request, length($request) - $sent, $sent);
        $sent += $count if defined($count);
        # An agent that refuses early may close before it has read everything: it has answered then.
        last if !defined($count) && $! != EAGAIN && $! != EINTR;
    }
    my $answer = '';
    while (1) {
        await($socket, 0, $deadline);
        my $count = sysread($socket, $answer, 65536, length($answer));
        if (!defined($count)) {
            next if $! == EAGAIN || $! == EINTR;
            die "the agent broke off its answer: $!\n";
        }
        last if $count == 0;
        die "the agent's answer is longer than $MOST_BYTES bytes\n" if length($answer) > $MOST_BYTES;
    }
    close($socket) or die "close the connection to the agent: $!\n";
    return $answer;
}

sub open_socket {
    my ($deadline) = @_;

    socket(my $socket, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!\n";
    my $flags = fcntl($socket, F_GETFL, 0) or die "socket: $!\n";
    fcntl($socket, F_SETFL, $flags | O_NONBLOCK) or die "socket: $!\n";
    while (!connect($socket, pack_sockaddr_un($SOCKET))) {
        next if $! == EINTR;
        die "no agent answers at $SOCKET: systemctl start trinas\n" if $! == ENOENT || $! == ECONNREFUSED;
        die "$SOCKET: $!: only root may ask the agent\n" if $! == EACCES;
        die "ask the agent at $SOCKET: $!\n" if $! != EAGAIN;
        # Its queue is full, and a Unix socket cannot be waited for there.
        die "late\n" if clock_gettime(CLOCK_MONOTONIC) + $RETRY_SECONDS > $deadline;
        select(undef, undef, undef, $RETRY_SECONDS); ## no critic (ProhibitSleepViaSelect)
    }
    return $socket;
}

# await returns when the socket can be written to ($write) or read from.
sub await {
    my ($socket, $write, $deadline) = @_;

    while (1) {
        my $left = $deadline - clock_gettime(CLOCK_MONOTONIC);
        die "late\n" if $left <= 0;
        my $bits = '';
        vec($bits, fileno($socket), 1) = 1;
        my $ready = $write ? select(undef, $bits, undef, $left) : select($bits, undef, undef, $left);
        return if $ready > 0;
        die "wait for the agent: $!\n" if $ready < 0 && $! != EINTR;
    }
    return;
}

# understand takes an HTTP answer apart.
sub understand {
    my ($raw) = @_;

    my $garbled = { error => "what answers at $SOCKET is no trinas agent: see systemctl status trinas" };
    my ($head, $body) = split(/\r\n\r\n/, $raw, 2);
    return $garbled if !defined($body) || $head !~ m!\AHTTP/1\.[01] (\d{3})\b!;
    my $code = int($1);
    my ($level) = $head =~ m/^Trinas-Level:\s*(\d{1,9})\s*$/im;
    my ($length) = $head =~ m/^Content-Length:\s*(\d{1,9})\s*$/im;
    return { error => 'the agent broke off its answer' } if defined($length) && $length != length($body);

    my $answer = eval { JSON->new->utf8->allow_nonref(0)->decode($body) };
    if (!defined($level) || $level < $LEVEL) {
        return $garbled if !ref($answer);
        my $has = defined($level) ? "is of level $level" : 'is of level 2 or less';
        return { code => $code, error => "the agent on this node $has, and the plugin needs level $LEVEL: "
                . 'upgrade trinas here, then systemctl restart trinas' };
    }
    return $garbled if !ref($answer);
    return { code => $code, answer => $answer } if $code == 200;
    return $garbled if ref($answer) ne 'HASH' || !defined($answer->{error}) || ref($answer->{error});

    my $hint = $answer->{hint} // '';
    return { code => $code, error => one_line($answer->{error} . ($hint ne '' ? ": $hint" : '')) };
}

# one_line makes a text fit for a log, and untaints it: it is only shown.
sub one_line {
    my ($text) = @_;

    utf8::encode($text) if utf8::is_utf8($text);
    $text =~ s/\s+\z//;
    $text =~ tr/\x00-\x1f\x7f/ /;
    return $text =~ m/\A(.{0,$MOST_TEXT})/ ? $1 : '';
}

# escape makes a text part of a URL (RFC 3986 section 2.1).
sub escape {
    my ($text) = @_;

    utf8::encode($text) if utf8::is_utf8($text);
    $text =~ s/([^A-Za-z0-9_.~-])/sprintf('%%%02X', ord($1))/ge;
    return $text;
}

1;
