s = 0
400000.times { |i| s = (s * 31 + i) % 1000007 }
words = (1..20000).map { |i| (i * 7919 % 10007).to_s(36) }
count = Hash.new(0)
words.each { |w| count[w] += 1 }
puts s, count.size, words.sort.uniq.first(3).inspect, (1..40).reduce(:*), "abcabc".scan(/b(.)/).inspect
