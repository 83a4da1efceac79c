#!/usr/bin/perl

# Goal: whatever answers at the agent's socket, a question ends within its limit, with an answer or with
# one line that says why there is none.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use Test::More;
use Trinas::FakeAgent;
use Trinas::TestPVE qw(within);

my $scfg = { 'trinas-volume' => 'a/b c', 'trinas-cluster' => 'c1' };

{
    my $agent = Trinas::FakeAgent->new(answer => sub {
        my ($method, $path, $body, $header) = @_;
        return (200, { method => $method, path => $path, body => $body, %$header });
    })->use_it();
    my $got = Trinas::Agent::ask($scfg, 'POST', 'x', limit => 5, query => { q => 'a b&c', none => undef }, body => { k => "\x{e4}" });
    is($got->{error}, undef, 'answered');
    my $answer = $got->{answer};
    is($answer->{path}, '/v1/volumes/a%2Fb%20c/x?q=a%20b%26c', 'names are escaped');
    is_deeply($answer->{body}, { k => "\x{e4}" }, 'body');
    is($answer->{'trinas-cluster'}, 'c1', 'cluster is told');
    is($answer->{'trinas-level'}, $Trinas::Agent::LEVEL, 'level is told');
}

for my $case (
    ['absent', qr/^no agent answers at \S+: systemctl start trinas$/],
    ['silent', qr/^the agent has not answered within 0.3 s: see journalctl -u trinas$/],
    ['deaf', qr/not answered within 0.3 s/],
    ['slow', qr/not answered within 0.3 s/],
    ['garbled', qr/^what answers at \S+ is no trinas agent/],
    ['broken', qr/broke off/],
) {
    my ($how, $error) = @$case;
    my $agent = Trinas::FakeAgent->new(how => $how)->use_it();
    my $got;
    cmp_ok(within(0.45, sub { $got = Trinas::Agent::ask($scfg, 'GET', 'service', limit => 0.3) }), '<', 0.45, "$how: within its limit");
    like($got->{error}, $error, "$how: says why");
    is($got->{code}, undef, "$how: nothing was understood");
}

{
    my $agent = Trinas::FakeAgent->new(how => 'endless')->use_it();
    my $got = Trinas::Agent::ask($scfg, 'GET', 'service', limit => 30);
    like($got->{error}, qr/longer than \d+ bytes/, 'an answer without end');
}

for my $case (
    [undef, 404, { error => 'the agent does not know the request' }, qr/of level 2 or less, and the plugin needs level 3: upgrade/],
    [2, 200, {}, qr/of level 2, and the plugin needs level 3: upgrade trinas here, then systemctl restart trinas$/],
    [4, 426, { error => 'takes 4 and above', hint => 'restart' }, qr/^takes 4 and above: restart$/],
    [4, 500, { error => "two\nlines\x1b[31m", hint => '' }, qr/^two lines \[31m$/],
    [4, 500, { error => 'x' x 5000 }, qr/^x{1000}$/],
    [4, 500, { error => "K\x{f6}ln" }, qr/^K\xc3\xb6ln$/],
    [4, 500, { error => {} }, qr/is no trinas agent/],
    [4, 500, [], qr/is no trinas agent/],
    [4, 200, '"text"', qr/is no trinas agent/],
    [4, 200, '{"a":', qr/is no trinas agent/],
    [4, 200, '', qr/is no trinas agent/],
) {
    my ($level, $code, $answer, $error) = @$case;
    my $agent = Trinas::FakeAgent->new(level => $level, answer => sub { return ($code, $answer) })->use_it();
    my $got = Trinas::Agent::ask($scfg, 'GET', 'service', limit => 5);
    like($got->{error}, $error, 'level ' . ($level // 'none') . ", $code");
    eval { Trinas::Agent::need($scfg, 'GET', 'service', limit => 5) };
    is($@, "$got->{error}\n", '... dies with the same line');
}

{
    my $agent = Trinas::FakeAgent->new(level => 9)->use_it();
    my $got = Trinas::Agent::ask($scfg, 'GET', 'service', limit => 5);
    is($got->{error}, undef, 'a newer agent that takes this level');
}

done_testing();
