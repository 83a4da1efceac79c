package Trinas::FakeAgent;

# An agent's socket for tests, in a process of its own: one that answers, or one that misbehaves.

use strict;
use warnings;

use File::Temp qw(tempdir);
use IO::Socket::UNIX;
use JSON;
use Time::HiRes qw(sleep);

# new starts an agent. answer: a function of method, path (with its query), body (decoded) and headers (a
# hash reference, names in lower case), which returns an HTTP code and an answer to be encoded. Or how:
#   absent   nobody listens
#   silent   takes a request and never answers
#   deaf     never takes a connection; its queue is full
#   slow     a byte of its answer now and then
#   garbled  answers with something else
#   broken   ends in the middle of its answer
#   endless  sends without end
# level: what it says of itself; undef: nothing, as agents before level 3.
sub new {
    my ($class, %opt) = @_;

    my $dir = tempdir(CLEANUP => 1);
    my $self = bless { socket => "$dir/control.sock", log => "$dir/requests", %opt }, $class;
    $self->{level} = $Trinas::Agent::LEVEL if !exists($opt{level});
    my $how = $opt{how} // 'answer';
    return $self if $how eq 'absent';

    my $listen = IO::Socket::UNIX->new(Local => $self->{socket}, Listen => $how eq 'deaf' ? 1 : 16) or die "listen: $!";
    if ($how eq 'deaf') {
        $self->{listen} = $listen;
        my @queue;
        for (1 .. 3) {
            my $client = IO::Socket::UNIX->new(Type => SOCK_STREAM) or die "socket: $!";
            $client->blocking(0);
            connect($client, pack_sockaddr_un($self->{socket}));
            push @queue, $client;
        }
        $self->{queue} = \@queue;
        return $self;
    }
    $self->{pid} = fork() // die "fork: $!";
    if (!$self->{pid}) {
        local $SIG{PIPE} = 'IGNORE';
        while (my $client = $listen->accept()) {
            eval { $self->serve($client, $how) };
        }
        POSIX::_exit(0);
    }
    close($listen);
    return $self;
}

sub DESTROY {
    my ($self) = @_;
    local ($?, $!);
    return if !$self->{pid};
    kill('KILL', $self->{pid});
    waitpid($self->{pid}, 0);
    return;
}

# use_it makes the plugin ask this agent.
sub use_it { my ($self) = @_; $Trinas::Agent::SOCKET = $self->{socket}; return $self }

# asked gives the requests so far as "METHOD PATH BODY", without the volume, and forgets them.
sub asked {
    my ($self) = @_;
    open(my $fh, '<', $self->{log}) or return [];
    my @lines = <$fh>;
    close($fh);
    unlink($self->{log});
    chomp(@lines);
    return \@lines;
}

sub serve {
    my ($self, $client, $how) = @_;

    my ($head, %header) = ('');
    while (my $line = <$client>) {
        $line =~ s/\r\n\z//;
        last if $line eq '';
        $head ||= $line;
        $header{ lc($1) } = $2 if $line =~ m/^([^:]+):\s*(.*)$/;
    }
    my ($method, $path) = split(' ', $head);
    return if !defined($path); # who asked has gone
    my $body = '';
    read($client, $body, $header{'content-length'}) if $header{'content-length'};
    open(my $fh, '>>', $self->{log}) or die "log: $!";
    (my $short = $path) =~ s!^/v1/volumes/[^/]+/!!;
    print $fh join(' ', $method, $short, $body eq '' ? () : $body), "\n";
    close($fh);

    return sleep(3600) if $how eq 'silent';
    return print $client "SSH-2.0-OpenSSH_9.2\r\n\0\xff\r\n\r\n{]" if $how eq 'garbled';
    if ($how eq 'endless') {
        print $client "HTTP/1.0 200 OK\r\nTrinas-Level: 3\r\n\r\n";
        1 while print $client '[' x 65536;
        return;
    }
    my ($code, $answer) = (200, { serving => JSON::true });
    ($code, $answer) = $self->{answer}->($method, $path, $body eq '' ? undef : decode_json($body), \%header)
        if $self->{answer};
    my $json = ref($answer) ? JSON->new->utf8->encode($answer) : $answer;
    my $text = "HTTP/1.0 $code Whatever\r\nContent-Type: application/json\r\nContent-Length: " . length($json) . "\r\n";
    $text .= "Trinas-Level: $self->{level}\r\n" if defined($self->{level});
    $text .= "\r\n$json";
    return print $client substr($text, 0, -3) if $how eq 'broken';
    return print $client $text if $how ne 'slow';
    $client->autoflush(1);
    for my $byte (split(//, $text)) {
        print $client $byte or return;
        sleep(0.05);
    }
    return;
}

1;
