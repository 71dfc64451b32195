# Sidekiq: `sidekiq -r sidekiq_app.rb -q bench`, or a producer as in ../produce.py, `ruby sidekiq_app.rb fill ...` or
# `paced ...`. What is written to PEERS_TALLY is told in ../jobs.py.

require "json"
require "sidekiq"

Sidekiq.logger.level = Logger::WARN
Redis.silence_deprecations = true # else redis-rb 4.8 prints a line for each BRPOP
Sidekiq.configure_server { |config| config.redis = {url: ENV["PEERS_URL"]} }
Sidekiq.configure_client { |config| config.redis = {url: ENV["PEERS_URL"]} }

WIDTH = 3
IO_S = 0.05
CHUNK = 1000

def now
  Process.clock_gettime(Process::CLOCK_MONOTONIC) # the clock of Python's time.monotonic
end

class Tally
  def initialize
    @count = ENV["PEERS_COUNT"].to_i
    @live = ENV["PEERS_LIVE"] # write each job at once: many are not to be, few are waited for
    @file = File.open(ENV["PEERS_TALLY"], "r+b")
    @cells = Array.new(WIDTH * @count, 0.0)
    @seen = 0
    @lock = Mutex.new
  end

  def began(number)
    @cells[WIDTH * number + 1] = now if number >= 0
  end

  def ended(number)
    return if number < 0
    @cells[WIDTH * number + 2] = now
    @lock.synchronize do
      @cells[WIDTH * number] += 1
      @seen += 1
      if @live
        @file.pwrite(@cells[WIDTH * number, WIDTH].pack("d*"), 8 * WIDTH * number)
      elsif @seen >= @count
        @file.pwrite(@cells.pack("d*"), 0)
      end
    end
  end
end

TALLY = Tally.new if Sidekiq.server?

class NoOp
  include Sidekiq::Worker
  sidekiq_options queue: "bench"

  def perform(number)
    TALLY.began(number)
    TALLY.ended(number)
  end
end

class Io
  include Sidekiq::Worker
  sidekiq_options queue: "bench"

  def perform(number)
    TALLY.began(number)
    sleep IO_S
    TALLY.ended(number)
  end
end

JOBS = {"no_op" => NoOp, "io" => Io}

def fill(kind, warm_up, single, bulk)
  job = JOBS.fetch(kind)
  warm_up.times { job.perform_async(-1) }
  start = now
  busy = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
  single.times { |number| job.perform_async(number) }
  took = {single_s: now - start, single_cpu_s: Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - busy}
  if bulk > 0
    start = now
    (single...single + bulk).each_slice(CHUNK) { |numbers| job.perform_bulk(numbers.map { |number| [number] }) }
    took[:bulk_s] = now - start
  end
  took
end

def paced(first, plan)
  due = JSON.parse(File.read(plan))
  start = now
  called = due.each_with_index.map do |offset, number|
    wait = start + offset - now
    sleep wait if wait > 0
    made = now
    NoOp.perform_async(first + number)
    made
  end
  {start: start, called: called}
end

unless Sidekiq.server?
  what, *given = ARGV
  told =
    if what == "fill"
      fill(given[0], *given[1..].map(&:to_i))
    else
      paced(given[0].to_i, given[1])
    end
  puts JSON.generate(told)
end
